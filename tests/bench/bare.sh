#!/usr/bin/env bash
# What site.yml does on the lab's hosts, as a person in a hurry would script it: no checks, no second run, no drift, no record.
# The other half of `make bench-site`; it is the measure, so it takes every short cut, and works on the hosts side by side.
set -euo pipefail

cache=${FPGA_HYBRID_LAB_CACHE:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ca=$cache/depot/tls/ca.crt
login=lab:$(cat "$cache/depot/password")
version=1.36.3
endpoint=api.lab.fpga-hybrid.test
hosts=(cp1 worker1 worker2 worker3)
declare -A address=([cp1]=10.203.10.11 [worker1]=10.203.10.12 [worker2]=10.203.20.13 [worker3]=10.203.10.14)
declare -A vpn=([cp1]=172.27.224.1 [worker1]=172.27.224.12 [worker2]=172.27.224.13 [worker3]=172.27.224.14)
declare -A remote=([worker1]=10.203.10.11 [worker2]=10.203.20.1 [worker3]=10.203.10.11)

on() {
  ssh -i "$cache/ssh/id_ed25519" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o ControlMaster=auto -o ControlPersist=60 -o ControlPath="$work/%h" "root@${address[$1]}" "${@:2}"
}

side_by_side() { # function host...
  local pids=() host pid
  for host in "${@:2}"; do
    "$1" "$host" >"$work/$1.$host" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || { tail -n 20 "$work/$1".*; exit 1; }
  done
}

prepare() {
  on "$1" "cat > /etc/depot-ca.crt" <"$ca"
  on "$1" "cat > /etc/apt/depot.asc" <"$cache/depot/key.asc"
  on "$1" bash -se <<END
    export DEBIAN_FRONTEND=noninteractive
    suite=\$(. /etc/os-release; echo \$VERSION_CODENAME)
    echo 'Acquire::https::depot::CaInfo "/etc/depot-ca.crt";' > /etc/apt/apt.conf.d/depot
    install -m 600 /dev/null /etc/apt/auth.conf.d/depot.conf
    echo 'machine depot login ${login%%:*} password ${login#*:}' > /etc/apt/auth.conf.d/depot.conf
    cat > /etc/apt/sources.list <<S
deb [signed-by=/etc/apt/depot.asc] https://depot/debian \$suite main
deb [signed-by=/etc/apt/depot.asc] https://depot/docker/linux/debian \$suite stable
deb [signed-by=/etc/apt/depot.asc] https://depot/kubernetes/core:/stable:/v1.36/deb/ /
deb [signed-by=/etc/apt/depot.asc] https://depot/helm/any/ any main
S
    apt-get -qq update
    helm=\$([ $1 = cp1 ] && echo helm || true)
    apt-get -qq install -y --no-install-recommends -o Dpkg::Options::=--force-confold \
      ca-certificates chrony openvpn openssl containerd.io kubelet=$version-* kubeadm=$version-* kubectl=$version-* kubernetes-cni \
      kmod conntrack ethtool iptables iputils-ping socat \$helm >/dev/null
    apt-mark -qq hold kubelet kubeadm kubectl kubernetes-cni >/dev/null
    printf 'overlay\nbr_netfilter\n' > /etc/modules-load.d/k8s.conf
    modprobe -a overlay br_netfilter
    printf 'net.ipv4.ip_forward=1\nnet.bridge.bridge-nf-call-iptables=1\n' > /etc/sysctl.d/k8s.conf
    sysctl -qp /etc/sysctl.d/k8s.conf
    echo '${vpn[cp1]} $endpoint' >> /etc/hosts
    cat > /etc/containerd/config.toml <<T
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "registry.k8s.io/pause:3.10.2"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = true
T
    for registry in registry.k8s.io docker.io; do
      mkdir -p /etc/containerd/certs.d/\$registry
      install -m 600 /dev/null /etc/containerd/certs.d/\$registry/hosts.toml
      cat > /etc/containerd/certs.d/\$registry/hosts.toml <<T
server = "https://depot:5000/v2/\$registry"
[host."https://depot:5000/v2/\$registry"]
  capabilities = ["pull", "resolve"]
  override_path = true
  ca = "/etc/depot-ca.crt"
  [host."https://depot:5000/v2/\$registry".header]
    authorization = "Basic $(printf %s "$login" | base64 -w0)"
T
    done
    mkdir -p /etc/systemd/system/containerd.service.d
    printf '[Service]\nLimitNOFILE=20000\n' > /etc/systemd/system/containerd.service.d/lab.conf
    for side in client server; do
      mkdir -p /etc/systemd/system/openvpn-\$side@lab.service.d
      printf '[Service]\nExecStartPre=-/usr/sbin/ip tuntap add dev tun0 mode tun\n' > /etc/systemd/system/openvpn-\$side@lab.service.d/tun.conf
    done
    systemctl daemon-reload
    systemctl restart containerd
END
}

certificates() {
  cd "$work"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=ca -keyout ca.key -out ca.crt
  for name in server worker1 worker2 worker3; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    usage=$([ "$name" = server ] && echo serverAuth || echo clientAuth)
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -extfile <(printf "keyUsage=digitalSignature\nextendedKeyUsage=%s\n" "$usage") -out "$name.crt"
  done
  on cp1 openvpn --genkey tls-crypt >tc.key
  cd - >/dev/null
}

options() { # name
  cat <<END
proto udp4
dev tun0
dev-type tun
tun-mtu 1400
data-ciphers AES-256-GCM
persist-key
persist-tun
<ca>
$(cat "$work/ca.crt")
</ca>
<cert>
$(cat "$work/$1.crt")
</cert>
<key>
$(cat "$work/$1.key")
</key>
<tls-crypt>
$(cat "$work/tc.key")
</tls-crypt>
END
}

server() {
  { options server; cat <<END; } | on cp1 "install -m 600 /dev/stdin /etc/openvpn/server/lab.conf"
port 1194
topology subnet
server 172.27.224.0 255.255.240.0 nopool
client-config-dir /etc/openvpn/ccd
ccd-exclusive
client-to-client
keepalive 10 60
dh none
END
  on cp1 "mkdir -p /etc/openvpn/ccd; cd /etc/openvpn/ccd
    $(for name in worker1 worker2 worker3; do echo "echo 'ifconfig-push ${vpn[$name]} 255.255.240.0' > $name;"; done)
    systemctl enable -q --now openvpn-server@lab"
}

dial_in() {
  { options "$1"; printf 'client\nremote %s 1194\nnobind\nremote-cert-tls server\n' "${remote[$1]}"; } | on "$1" "install -m 600 /dev/stdin /etc/openvpn/client/lab.conf"
  on "$1" "systemctl enable -q --now openvpn-client@lab; until ping -qc1 -W1 ${vpn[cp1]} >/dev/null; do sleep 0.3; done"
}

init() {
  on cp1 "cat > /run/kubeadm.yaml && kubeadm init --config /run/kubeadm.yaml --ignore-preflight-errors=SystemVerification && mkdir -p /root/.kube && cp /etc/kubernetes/admin.conf /root/.kube/config" <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: ${vpn[cp1]}}
nodeRegistration: {name: cp1, kubeletExtraArgs: [{name: node-ip, value: ${vpn[cp1]}}]}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v$version
controlPlaneEndpoint: $endpoint:6443
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
apiServer: {certSANs: [10.203.10.11]}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: 20000
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0}
END
  curl -fsS --cacert "$ca" -u "$login" --resolve depot:443:10.203.10.2 https://depot/files/calico/v3.28.5/manifests/calico-vxlan.yaml |
    sed -e 's/veth_mtu: "0"/veth_mtu: "1350"/' -e '/CALICO_IPV4POOL_VXLAN/{n;s/CrossSubnet/Always/}' \
      -e 's/^\( *\)- name: IP$/\1- name: IP_AUTODETECTION_METHOD\n\1  value: kubernetes-internal-ip\n\1- name: IP/' |
    on cp1 "kubectl apply --server-side -f -"
}

join() {
  on "$1" "cat > /run/join.yaml && kubeadm join --config /run/join.yaml --ignore-preflight-errors=SystemVerification" <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery: {bootstrapToken: {apiServerEndpoint: "$endpoint:6443", token: $token, caCertHashes: ["$hash"]}}
nodeRegistration: {name: $1, kubeletExtraArgs: [{name: node-ip, value: ${vpn[$1]}}]}
END
}

side_by_side prepare "${hosts[@]}"
certificates 2>/dev/null
server
side_by_side dial_in worker1 worker2 worker3
side_by_side init cp1
token=$(on cp1 kubeadm token create --ttl 15m)
hash=sha256:$(on cp1 "openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1")
side_by_side join worker1 worker2 worker3
on cp1 "kubectl wait --for=condition=Ready node --all --timeout=180s && kubectl -n kube-system rollout status ds/calico-node --timeout=120s" >/dev/null
