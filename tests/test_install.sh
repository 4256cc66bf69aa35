#!/usr/bin/env bash
# The install target: the program runs from where it was put.   CONVOY_BUILD=build-cpu
set -euo pipefail
build=${CONVOY_BUILD:?the build folder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/usr" >/dev/null
cd "$work"
usr/bin/convoy summary lenet5 >printed
grep -q 'conv' printed
for file in usr/share/convoy/jobs/packages.sh usr/share/doc/convoy/README.md usr/share/doc/convoy/LICENSE; do
  [[ -s $file ]] || { echo "$file was not installed"; find usr; exit 1; }
done
