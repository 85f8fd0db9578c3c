#!/usr/bin/env bash
# Installs the real parts that the tests talk to: mosquitto, through apt-get. Called by `make test`.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

if command -v mosquitto >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "mosquitto is missing and cannot be installed from here; tests with a real broker are skipped." >&2
    echo "Debian or Ubuntu: sudo apt-get install mosquitto" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends mosquitto
