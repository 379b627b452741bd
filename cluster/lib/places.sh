# In: XDG_CACHE_HOME.  Out: where everything lies, under which names and numbers.  Rule: sourcing this touches nothing.
# shellcheck shell=bash disable=SC2034

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TREE=$(dirname "$HERE")
STATE=${XDG_CACHE_HOME:-$HOME/.cache}/wsgi-operator/cluster

BIN=$STATE/bin         # kubectl, helm, … : links to the binaries built last
BUILT=$STATE/built     # binaries, in folders named by a hash of their sources
IMAGES=$STATE/images   # archives of images; `up` imports every one
BUILDAH=$STATE/buildah # storage of the image builder
LOGS=$STATE/log        # of builds; a cluster's own logs are in $RUN/log
RUN=$STATE/run         # all that a running cluster writes; gone after `down`

# What belongs to the machine as a whole, so that two caches cannot start two clusters. Another name is for the tests of
# these scripts, which run a cluster of their own in a network namespace of its own.
NAME=${WSGI_CLUSTER_NAME:-wsgi-operator}
LOCK=/run/lock/$NAME-cluster.lock
OWNER=/run/$NAME-cluster
CGROUP=$NAME

NODE=node1
BRIDGE=wsgi0
NODE_IP=10.244.0.1 POD_CIDR=10.244.0.0/24 CLUSTER_CIDR=10.244.0.0/16
SVC_CIDR=10.96.0.0/16 SVC_IP=10.96.0.1
API=https://127.0.0.1:6443
PORTS=(2379 2380 6443 10248 10249 10250 10256 10257 10259)
CONTEXT=wsgi-operator
CNI_BIN=/usr/lib/cni

PKI=$RUN/pki CONF=$RUN/conf LOG=$RUN/log PIDS=$RUN/pids
ADMIN=$RUN/admin.kubeconfig
SOCKET=$RUN/containerd.sock
PAUSE=localhost/wsgi-operator-pause:1

kubectl() { KUBECONFIG=$ADMIN "$BIN/kubectl" "$@"; }
containers() { ctr -a "$SOCKET" -n k8s.io "$@"; }

# is another cluster meant than ours?
foreign() { [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$ADMIN" ]; }
