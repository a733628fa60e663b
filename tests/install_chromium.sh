#!/bin/sh
# Makes sure that there is a Chromium for the browser tests: CHROMIUM, one on the PATH, or Debian's.
set -eu
if [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "error: the browser tests need Chromium. Install it, or name one: CHROMIUM=/path/to/chromium make test" >&2
  exit 2
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
