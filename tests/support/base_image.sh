#!/usr/bin/env bash
# The base image of containers, for tests: a small Debian with its Python, without any registry. Made once (30 s, root)
# as build/python-3.11.tar; the tests bring it into the engine that they use. By hand:
#     docker import --change 'ENV LANG=C.UTF-8' build/python-3.11.tar fogline/python:3.11
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tar=$root/build/python-3.11.tar

if [ ! -s "$tar" ]; then
    mkdir -p "$root/build"
    mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates,python3,python3-venv \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' bookworm "$tar.draft.tar"
    mv "$tar.draft.tar" "$tar"
fi
