# Reads layers.txt, then FILE:LINE:TEXT; prints the includes that break it.
# A backslash-free glob with * only, as a regular expression.
function pattern(glob) {
    gsub(/\./, "[.]", glob); gsub(/\+/, "[+]", glob); gsub(/\*/, ".*", glob)
    return "^" glob "$"
}
function below(path, folder) { return index(path, folder "/") == 1 }
function room_of(path,    i, best) {
    if (below(path, "include/cadtrain")) return owner[substr(path, length("include/cadtrain/") + 1)]
    best = 0
    for (i = 1; i <= folders; i++)
        if (below(path, folder[i]) && (!best || length(folder[i]) > length(folder[best]))) best = i
    return best ? room[best] : ""
}
function dir_of(path) { sub(/\/[^\/]*$/, "", path); return path }
function bad(why) { print file ":" line ": " why }

# Own headers.
function check_own(name,    to, from) {
    to = owner[name]; from = room_of(file)
    if (to == "") bad("cadtrain/" name " belongs to no room: add it to test/gates/layers.txt")
    else if (from != to && layer[to] >= layer[from] && !((from, to) in allowed))
        bad(from " (layer " layer[from] ") may not know " to " (layer " layer[to] "): <cadtrain/" name ">")
}
# "…" is for headers of the file's own folder, or of a folder above it that belongs to a room of a lower layer or its own.
function check_local(name,    dir, path) {
    dir = dir_of(file)
    while (substr(name, 1, 3) == "../") { name = substr(name, 4); dir = dir_of(dir) }
    path = dir "/" name
    if (room_of(path) == room_of(file)) return
    if (room_of(path) == "" || !below(dir_of(file), dir_of(path)) || layer[room_of(path)] >= layer[room_of(file)])
        bad("\"" name "\" is private to another room")
}
function check_foreign(name,    i, k, n, where, list) {
    for (i = 1; i <= homes; i++) {
        if (name !~ home[i]) continue
        n = split(places[i], list, " ")
        for (k = 1; k <= n; k++) if (below(file, list[k])) return
        bad("<" name "> lives in " places[i])
        return
    }
    for (i = 1; i <= standards; i++) if (name ~ standard[i]) return
    bad("<" name "> is not a header this project knows: add it to test/gates/layers.txt")
}

FNR == NR {
    if ($1 == "room") {
        room[++folders] = $2; folder[folders] = $4; layer[$2] = $3 + 0
        for (i = 5; i <= NF; i++) owner[$i] = $2
    }
    if ($1 == "allow") allowed[$2, $3] = 1
    if ($1 == "home") {
        home[++homes] = pattern($2); places[homes] = $3
        for (i = 4; i <= NF; i++) places[homes] = places[homes] " " $i
    }
    if ($1 == "standard") for (i = 2; i <= NF; i++) standard[++standards] = pattern($i)
    next
}
{
    i = index($0, ":"); file = substr($0, 1, i - 1); text = substr($0, i + 1)
    i = index(text, ":"); line = substr(text, 1, i - 1); text = substr(text, i + 1)
    if (file != last) {
        last = file
        if (room_of(file) == "") print file ":1: belongs to no room: add it to test/gates/layers.txt"
    }
    if (room_of(file) == "" || text !~ /^[ \t]*#[ \t]*include/) next
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", text)
    name = substr(text, 2); sub(/[>"].*/, "", name)
    if (name ~ /^cadtrain\//) check_own(substr(name, 10))
    else if (text ~ /^"/) check_local(name)
    else check_foreign(name)
}
