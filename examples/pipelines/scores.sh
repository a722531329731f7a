#!/bin/sh
# The scores of a network, written to another file first: what has the name is whole. Without ground truth there is
# nothing to score: mcis eval says so and ends with 2, and the file holds {"metrics": null}.
#   ./scores.sh NETWORK FILE
set -u
code=0
${MCIS:-mcis} eval "$1" --json > "$2.part" 2> "$2.told" || code=$?
cat "$2.told" >&2
if [ $code = 2 ] && grep -q 'ground truth missing' "$2.told"; then
    echo '{"metrics": null}' > "$2.part"
    code=0
fi
rm -f "$2.told"
if [ $code = 0 ]; then mv "$2.part" "$2"; else rm -f "$2.part"; fi
exit $code
