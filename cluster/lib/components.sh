# In: binaries, certificates.  Out: each component started, with the flags that it needs here.
# Rule: one function per component; every odd flag says why it is there. No registry is ever asked: images are imported.
# shellcheck shell=bash

start_etcd() {
  local client=http://127.0.0.1:2379 peer=http://127.0.0.1:2380
  # --unsafe-no-fsync: this state is thrown away anyway
  start etcd "$BIN/etcd" --data-dir "$RUN/etcd" --listen-client-urls $client --advertise-client-urls $client \
    --listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster default=$peer \
    --unsafe-no-fsync --snapshot-count 10000 --log-level warn
}

start_apiserver() {
  start kube-apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 \
    --bind-address=0.0.0.0 --advertise-address="$NODE_IP" --service-cluster-ip-range="$SVC_CIDR" --cert-dir="$RUN/apiserver-certs" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
}

# the query rates are raised for both: a node Ready in 3.7 s instead of 8.5 s, and rollouts that do not queue
QUERY_RATES=(--kube-api-qps=200 --kube-api-burst=400)

start_controller_manager() {
  local config=$RUN/controller-manager.kubeconfig
  start kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$config" --bind-address=127.0.0.1 \
    --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" --leader-elect=false "${QUERY_RATES[@]}" \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/sa.key" --use-service-account-credentials=true \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --concurrent-deployment-syncs=10 --node-monitor-grace-period=20s --cluster-cidr="$CLUSTER_CIDR" --service-cluster-ip-range="$SVC_CIDR"
}

start_scheduler() {
  local config=$RUN/scheduler.kubeconfig
  start kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$config" --bind-address=127.0.0.1 \
    --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" --leader-elect=false "${QUERY_RATES[@]}"
}

# a bridge that carries the node's own address (not every kernel has a dummy device)
make_network() {
  ip link add "$BRIDGE" type bridge
  ip addr add "$NODE_IP/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  # for kube-proxy: pod -> service -> pod on this one bridge. Pods get no default route, so nothing leaves the machine.
  ip link set "$BRIDGE" type bridge nf_call_iptables 1
  sysctl -qw "net.ipv4.conf.$BRIDGE.forwarding=1"
  mkdir -p "$CONF/cni"
  cat >"$CONF/cni/10-$CONTEXT.conflist" <<C
{"cniVersion": "1.0.0", "name": "$CONTEXT", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": false, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/cni-ipam",
     "ranges": [[{"subnet": "$POD_CIDR", "rangeStart": "10.244.0.10", "gateway": "$NODE_IP"}]],
     "routes": [{"dst": "$SVC_CIDR", "gw": "$NODE_IP"}]}}]}
C
}

start_containerd() {
  # two dialects: containerd 1 has one table for what containerd 2 has in two
  local version=2 runtime=io.containerd.grpc.v1.cri in_runtime="sandbox_image = \"$PAUSE\"" images=""
  if containerd --version | grep -q ' v\?2\.'; then
    version=3 runtime=io.containerd.cri.v1.runtime in_runtime=""
    images="[plugins.\"io.containerd.cri.v1.images\".pinned_images]
  sandbox = \"$PAUSE\""
  fi
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE nothing may lower its score, and runc would die on every sandbox
  # netns_mounts_under_state_dir, Root: so that no file of ours lies where a sweep would have to guess
  cat >"$CONF/containerd.toml" <<C
version = $version
root = "$RUN/containerd"
state = "$RUN/containerd-state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$SOCKET"
$images
[plugins."$runtime"]
  $in_runtime
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."$runtime".cni]
  bin_dir = "$CNI_BIN"
  conf_dir = "$CONF/cni"
[plugins."$runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."$runtime".containerd.runtimes.runc.options]
  BinaryName = "$(command -v runc)"
  Root = "$RUN/runc"
  SystemdCgroup = false
C
  start containerd containerd -c "$CONF/containerd.toml"
}

start_kubelet() {
  # failCgroupV1: cgroup v1 is all that some machines have. makeIPTablesUtilChains: they would stay behind.
  # localStorageCapacityIsolation, evictionHard, image GC: a full disk of the machine is not this cluster's to cure
  cat >"$CONF/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failSwapOn: false
makeIPTablesUtilChains: false
address: $NODE_IP
containerRuntimeEndpoint: unix://$SOCKET
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
podLogsDir: $RUN/podlogs
volumePluginDir: $RUN/volumeplugins
clusterDomain: cluster.local
clusterDNS: [$NODE_IP]
resolvConf: ""
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
imageMaximumGCAge: 0s
maxPods: 200
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
serializeImagePulls: false
C
  start kubelet "$BIN/kubelet" --config="$CONF/kubelet.yaml" --kubeconfig="$RUN/kubelet.kubeconfig" --root-dir="$RUN/kubelet" \
    --hostname-override="$NODE" --node-ip="$NODE_IP"
}

start_proxy() {
  # the conntrack flags: kube-proxy would set the machine's own limits
  start kube-proxy "$BIN/kube-proxy" --kubeconfig="$RUN/proxy.kubeconfig" --proxy-mode=nftables --cluster-cidr="$CLUSTER_CIDR" \
    --hostname-override="$NODE" --bind-address="$NODE_IP" --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
}

# DNS for cluster.local alone, on the bridge's address
start_dns() {
  cat >"$CONF/Corefile" <<C
cluster.local:53 in-addr.arpa:53 {
  bind $NODE_IP
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $ADMIN $CONTEXT
  }
  cache 5
}
C
  start coredns "$BIN/coredns" -conf "$CONF/Corefile"
}
