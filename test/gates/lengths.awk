# Reads FILE:LINE:TEXT (no comments, empty strings); prints functions longer than `most` lines. A function is a brace at the outermost
# level after a parenthesis and no `=` (so no table).
{
    i = index($0, ":"); file = substr($0, 1, i - 1); text = substr($0, i + 1)
    i = index(text, ":"); line = substr(text, 1, i - 1) + 0; text = substr(text, i + 1)
    if (file != last) { last = file; depth = 0; head = "" }
    gsub(/''/, "", text)
    if (text ~ /^[ \t]*#/ || text ~ /^extern "" *\{/) next
    if (depth == 0 && text ~ /^\}[ \t]*$/) next # the end of extern "C"
    if (depth == 0 && head == "") began = line
    while (match(text, /[{};]/)) {
        before = substr(text, 1, RSTART - 1); c = substr(text, RSTART, 1); text = substr(text, RSTART + 1)
        if (depth == 0) head = head before
        if (c == "{") {
            if (depth++ == 0) { is_function = head ~ /\(/ && head !~ /=/; start = began }
        } else if (c == "}") {
            if (--depth == 0) {
                if (is_function && line - start + 1 > most)
                    print file ":" start ": a function of " line - start + 1 " lines (at most " most ")"
                head = ""
                began = line + 1
            }
        } else if (depth == 0) {
            head = ""
            began = line + 1
        }
    }
    if (depth == 0) {
        head = head text
        if (head ~ /^[ \t]*$/) head = ""
    }
}
