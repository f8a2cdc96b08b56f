# Prints FILE:LINE:TEXT without comments; with -v blank=1 also with empty strings. Line by line, so that places stay right.
FNR == 1 { inside = 0 }
{
    out = ""; rest = $0
    while (rest != "") {
        if (inside) {
            i = index(rest, "*/")
            if (!i) { rest = ""; break }
            rest = substr(rest, i + 2); inside = 0; out = out " "
            continue
        }
        if (!match(rest, /["'\/]/)) { out = out rest; break }
        out = out substr(rest, 1, RSTART - 1); c = substr(rest, RSTART, 1); rest = substr(rest, RSTART)
        if (substr(rest, 1, 2) == "//") break
        if (substr(rest, 1, 2) == "/*") { inside = 1; rest = substr(rest, 3); continue }
        if (c == "/") { out = out c; rest = substr(rest, 2); continue }
        n = quoted(rest, c)
        out = out (blank && !/^[ \t]*#[ \t]*include/ ? c c : substr(rest, 1, n))
        rest = substr(rest, n + 1)
    }
    print FILENAME ":" FNR ":" out
}
# The length of the string or character that s begins with.
function quoted(s, c,    i, d) {
    for (i = 2; i <= length(s); i++) {
        d = substr(s, i, 1)
        if (d == "\\") i++
        else if (d == c) return i
    }
    return length(s)
}
