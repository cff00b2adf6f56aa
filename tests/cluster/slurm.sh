#!/usr/bin/env bash
# A real SLURM of two nodes on this machine, for the tests. Needs root.
#   slurm.sh install     Debian's packages, where they are missing
#   slurm.sh start DIR   everything it keeps lies in DIR; then `export SLURM_CONF=DIR/slurm.conf`
#   slurm.sh stop DIR    ends what `start` started, nothing else
# Each node lives in its own process and host name space, as a machine does: a process of one cannot see those of the
# other; and it finds its configuration where a node has it, in /etc/slurm. Settings: NODES; and for each node CPUS, GPUS
# (made of /dev/null) and MEMORY in MB.
set -euo pipefail
NODES=${NODES:-2} CPUS=${CPUS:-4} GPUS=${GPUS:-2} MEMORY=${MEMORY:-64000}

die() {
    echo "slurm.sh: $*" >&2
    exit 1
}

install_packages() {
    command -v slurmctld slurmd munged sbatch >/dev/null && return
    apt-get update -qq
    # shellcheck disable=SC2016
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

free_ports() {
    python3 -c '
import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in taken))' "$1"
}

configure() {
    local dir=$1 number port
    read -ra ports <<<"$(free_ports $((NODES + 1)))"
    mkdir -p "$dir/state"
    cat >"$dir/slurm.conf" <<END
ClusterName=trial
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdLogFile=$dir/slurmd-%n.log
SlurmdSpoolDir=$dir/spool-%n
StateSaveLocation=$dir/state
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SchedulerParameters=defer,batch_sched_delay=0,sched_interval=2
MinJobAge=600
KillWait=5
ReturnToService=2
GresTypes=gpu
END
    for number in $(seq "$NODES"); do
        port=${ports[$number]}
        echo "NodeName=node$number NodeHostname=node$number NodeAddr=127.0.0.1 Port=$port CPUs=$CPUS" \
            "RealMemory=$MEMORY Gres=gpu:$GPUS" >>"$dir/slurm.conf"
        mkdir -p "$dir/spool-node$number"
    done
    echo "PartitionName=main Nodes=node[1-$NODES] Default=YES MaxTime=INFINITE State=UP" >>"$dir/slurm.conf"
    for number in $(seq "$GPUS"); do
        [ -e "$dir/gpu$((number - 1))" ] || mknod "$dir/gpu$((number - 1))" c 1 3
    done
    echo "Name=gpu File=$dir/gpu[0-$((GPUS - 1))]" >"$dir/gres.conf"
    head -c 1024 /dev/urandom >"$dir/munge.key"
    chmod 400 "$dir/munge.key"
}

# background NAME COMMAND...: its process id goes to DIR/NAME.started
background() {
    local name=$1
    shift
    setsid "$@" >"$dir/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/$name.started"
}

start() {
    local dir number
    [ "$(id -u)" = 0 ] || die "needs root"
    mkdir -p "$1" /etc/slurm
    dir=$(realpath "$1")
    chmod 755 "$dir"
    configure "$dir"
    export SLURM_CONF=$dir/slurm.conf
    background munged munged --foreground --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" \
        --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
    until_true 20 munge --socket="$dir/munge.socket" --no-input
    background slurmctld slurmctld -D -i
    for number in $(seq "$NODES"); do
        # shellcheck disable=SC2016
        background "node$number" unshare --mount --uts --pid --fork --mount-proc --kill-child \
            bash -c 'hostname "$1" && mount --bind "$2" /etc/slurm && exec slurmd -D -N "$1"' slurmd "node$number" "$dir"
    done
    until_true 60 idle "$NODES" || die "the nodes do not come up; see $dir/*.log"
    echo "$SLURM_CONF"
}

idle() { [ "$(sinfo --noheader --Node --states=idle --format=%N | wc -l)" = "$1" ]; }

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

stop() {
    local dir file
    dir=$(realpath "$1")
    SLURM_CONF=$dir/slurm.conf scancel --quiet --user="$(id -un)" 2>/dev/null || true
    for file in "$dir"/node*.started "$dir/slurmctld.started" "$dir/munged.started"; do
        [ -e "$file" ] || continue
        kill -- "-$(cat "$file")" 2>/dev/null || true
        until_true 10 gone "$(cat "$file")" || kill -KILL -- "-$(cat "$file")" 2>/dev/null || true
        rm "$file"
    done
}

gone() { ! kill -0 "$1" 2>/dev/null; }

case ${1:-} in
install) install_packages ;;
start) start "${2:?DIR}" ;;
stop) stop "${2:?DIR}" ;;
*) die "usage: slurm.sh install | start DIR | stop DIR" ;;
esac
