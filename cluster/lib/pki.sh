# In: openssl.  Out: a CA, certificates and kubeconfigs below $RUN (EC keys: less than a second).
# Rule: they live and die with one cluster; front-proxy shares the CA, for nobody else ever asks this API server.
# shellcheck shell=bash

KEY=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc)

make_pki() {
  mkdir -p "$PKI"
  (
    cd "$PKI" || exit
    umask 077
    openssl req -x509 "${KEY[@]}" -days 365 -subj "/CN=$CONTEXT-ca" -keyout ca.key -out ca.crt 2>/dev/null
    certificate apiserver "/CN=kube-apiserver" "IP:127.0.0.1,IP:$NODE_IP,IP:$SVC_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    certificate apiserver-kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client"
    certificate front-proxy "/CN=front-proxy-client"
    certificate admin "/O=system:masters/CN=admin"
    certificate controller-manager "/CN=system:kube-controller-manager"
    certificate scheduler "/CN=system:kube-scheduler"
    certificate proxy "/CN=system:kube-proxy"
    certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "IP:$NODE_IP,IP:127.0.0.1,DNS:$NODE"
    openssl genrsa -out sa.key 2048 2>/dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
    for who in admin controller-manager scheduler proxy kubelet; do kubeconfig_for "$who" >"$RUN/$who.kubeconfig"; done
  )
}

certificate() { # NAME SUBJECT [ALTERNATIVE NAMES]
  local extensions="basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth,serverAuth"
  [ -z "${3:-}" ] || extensions+="\nsubjectAltName=$3"
  openssl req "${KEY[@]}" -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 365 \
    -extfile <(printf '%b' "$extensions") -out "$1.crt" 2>/dev/null
  rm "$1.csr"
}

kubeconfig_for() {
  cat <<K
apiVersion: v1
kind: Config
clusters: [{name: $CONTEXT, cluster: {server: "$API", certificate-authority-data: "$(base64 -w0 <ca.crt)"}}]
users: [{name: $1, user: {client-certificate-data: "$(base64 -w0 <"$1.crt")", client-key-data: "$(base64 -w0 <"$1.key")"}}]
contexts: [{name: $CONTEXT, context: {cluster: $CONTEXT, user: $1}}]
current-context: $CONTEXT
K
}
