#!/usr/bin/env bash
# What the programs need beside themselves: deploy/collect_runtime.sh ROOT PROGRAM...
#   ROOT/usr/bin                    the programs, stripped of debug information
#   ROOT/usr/lib/image-variations   shared libraries that are no Debian package's (LibTorch's), with a line for ldconfig
#   ROOT/packages                   the Debian packages that own all others
set -euo pipefail
root=${1:?usage: collect_runtime.sh ROOT PROGRAM...}
shift
libraries=$root/usr/lib/image-variations
install -d "$root/usr/bin" "$libraries" "$root/etc/ld.so.conf.d"
echo /usr/lib/image-variations >"$root/etc/ld.so.conf.d/image-variations.conf"

for program in "$@"; do
  strip -o "$root/usr/bin/$(basename "$program")" "$program"
  ldd "$program"
done | awk '$2 == "=>" && $3 == "not" { print "collect_runtime: " $1 " is missing" > "/dev/stderr"; bad = 1 }
            $3 ~ /^\// { print $3 }
            END { exit bad }' | sort -u | while read -r library; do
  # Since Debian 12 /lib is a link to /usr/lib, but packages own either name.
  package=$(dpkg-query -S "$library" 2>/dev/null || dpkg-query -S "/usr$library" 2>/dev/null \
            || dpkg-query -S "${library#/usr}" 2>/dev/null || true)
  if [ -n "$package" ]; then
    cut -d: -f1 <<<"$package" | head -n 1 >>"$root/packages"
  else
    install -m 644 "$library" "$libraries/"
  fi
done
sort -u -o "$root/packages" "$root/packages"
echo "collect_runtime: $(wc -l <"$root/packages") packages, $(du -sh "$libraries" | cut -f1) of other libraries"
