#!/usr/bin/env bash
# install.sh: what the tests of remote storage need beside the package's own dependencies, from Debian's packages.
# The server's package starts no service here, and the tests start a server of their own.
set -euo pipefail
command -v /usr/sbin/sshd >/dev/null && command -v ssh-keygen >/dev/null && exit
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends openssh-server openssh-client >/dev/null
