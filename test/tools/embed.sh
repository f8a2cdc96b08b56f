#!/bin/sh
# Prints a C table {path, text} of the files given: what the program carries inside (families, the demo).
echo '#include <cadtrain/embedded.h>'
echo 'const cad_embedded cad_embedded_files[] = {'
for f in "$@"; do
    printf '{"%s",\n' "$f"
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$/\\n"/' "$f"
    printf '},\n'
done
echo '{0, 0}};'
