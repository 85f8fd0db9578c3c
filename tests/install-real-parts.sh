#!/usr/bin/env bash
# Installs the real parts that the tests talk to: mosquitto through apt-get, Apache Kafka through Maven into
# build/kafka (FOGLINE_KAFKA names another folder of its jars), ip for the network that is cut, git and an ssh server
# for code that is fetched, a browser for the page of an endpoint, TensorFlow through PyPI into build/tensorflow
# (FOGLINE_TENSORFLOW names another folder), a container engine, docker-compose, a registry of images, and the base
# image of containers into build/python-3.11.tar.
# Called by `make test`.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
root=$(cd "$(dirname "$0")/.." && pwd)
jars=${FOGLINE_KAFKA:-$root/build/kafka}

missing=()
command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v ip >/dev/null || missing+=(iproute2)
command -v git >/dev/null || missing+=(git)
# Debian starts the servers it installs: nobody's own machine is to be opened for a test.
command -v sshd >/dev/null || [ -d /run/systemd/system ] || missing+=(openssh-server)
command -v dockerd >/dev/null || [ -d /run/systemd/system ] || missing+=(docker.io)
command -v docker-compose >/dev/null || missing+=(docker-compose)
[ -s "$root/build/python-3.11.tar" ] || command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v docker-registry >/dev/null || [ -d /run/systemd/system ] || missing+=(docker-registry)
command -v wrk >/dev/null || missing+=(wrk)
command -v chromium >/dev/null || missing+=(chromium)
command -v java >/dev/null || missing+=(default-jre-headless)
if ! compgen -G "$jars/kafka_*.jar" >/dev/null; then
    command -v mvn >/dev/null || missing+=(maven)
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing, and not installable from here: ${missing[*]}; tests with real brokers are skipped." >&2
        echo "Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
        exit 0
    fi
    export DEBIAN_FRONTEND=noninteractive
    # Nothing that is installed starts by itself: the tests start their own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt-get update -qq
    apt-get install -qq --yes --no-install-recommends "${missing[@]}"
fi

if ! compgen -G "$jars/kafka_*.jar" >/dev/null; then
    mvn --quiet --batch-mode --file "$root/tests/support/kafka_server/pom.xml" \
        dependency:copy-dependencies -DoutputDirectory="$jars"
fi

if [ "$(id -u)" -eq 0 ]; then
    "$root/tests/support/base_image.sh"
fi

"$root/.venv/bin/python" "$root/tests/support/tensorflow_env.py" >/dev/null
# The foreign clients of an inference server, each in an environment of its own.
"$root/.venv/bin/python" "$root/tests/clients/install.py" >/dev/null ||
    echo "foreign clients are missing: their tests are skipped." >&2
