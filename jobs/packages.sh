# shellcheck shell=bash
# Sourced: install_missing PURPOSE PACKAGE=WHAT... installs with apt what is not there, or says what to install and ends.
# WHAT is the command or the file (a pattern) that the package brings.

install_missing() {
  local purpose=$1 missing=() entry what
  shift
  for entry in "$@"; do
    what=${entry#*=}
    if [[ $what == /* ]]; then compgen -G "$what" >/dev/null || missing+=("${entry%%=*}")
    else command -v "$what" >/dev/null || missing+=("${entry%%=*}"); fi
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  local sudo=()
  if [[ $(id -u) -ne 0 ]]; then
    sudo=(sudo -n)
    [[ -t 0 ]] && sudo=(sudo)
  fi
  if command -v apt-get >/dev/null && { [[ ${#sudo[@]} -eq 0 ]] || "${sudo[@]}" true 2>/dev/null; }; then
    echo "Installing ${missing[*]} ($purpose)"
    if "${sudo[@]}" apt-get update -qq </dev/null &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        </dev/null >/dev/null; then
      return 0
    fi
    echo "apt-get could not install them." >&2
  fi
  echo "To $purpose, install: ${missing[*]} (names of Debian's and Ubuntu's packages)" >&2
  exit 1
}

# shellcheck disable=SC2034  # for the scripts that source this
build_packages=("g++=g++" "cmake=cmake" "ninja-build=ninja" "git=git" "zlib1g-dev=/usr/include/zlib.h"
  "libpng-dev=/usr/include/png.h" "libjpeg-dev=/usr/include/jpeglib.h" "libcli11-dev=/usr/include/CLI/CLI.hpp"
  "libtomlplusplus-dev=/usr/include/toml++/toml.h" "nlohmann-json3-dev=/usr/include/nlohmann/json.hpp")
