
# kubeadm keeps the rest in files on its hosts. Set CONTROL_PLANE and NODES to names that ssh knows, or leave out this part.
# Kubeconfigs hold credentials: the command below prints, on the host itself, only the lines that name servers, CAs and
# users, and puts REDACTED where a credential was; what it does not know it leaves out.
CONTROL_PLANE=${CONTROL_PLANE-$($KUBECTL get nodes -l node-role.kubernetes.io/control-plane \
  -o 'jsonpath={.items[0].metadata.name}')}
NODES=${NODES-$nodes}
keep='^(apiVersion|kind|clusters|cluster|contexts|context|current-context|users|user|name|server'
keep="$keep"'|certificate-authority|certificate-authority-data|insecure-skip-tls-verify|tls-server-name|client-certificate)$'
hide='^(client-certificate-data|client-key|client-key-data|token|tokenFile|username|password|exec|auth-provider)$'
lines='{ match($0, /^[ -]*/); n = RLENGTH; if (deep && n >= deep) next; deep = 0
  line = substr($0, n + 1); key = line; sub(/:.*/, "", key)
  if (key ~ hide) { print substr($0, 1, n) key ": REDACTED"; deep = n + 1 }
  else if (key ~ keep && line !~ /[{[]/) print
  else deep = n + 1 }'
# shown FILE: the command that prints FILE without its credentials.
shown() { printf "sudo awk -v keep='%s' -v hide='%s' '%s' %s" "$keep" "$hide" "$lines" "$1"; }
remote() { $SSH "$1" "$2"; }

if [ -n "$CONTROL_PLANE" ]; then
  for name in controller-manager scheduler; do
    save "$name.conf" remote "$CONTROL_PLANE" "$(shown /etc/kubernetes/$name.conf)"
  done
  # CA certificates; the keys beside them are not touched.
  save etcd-ca.crt remote "$CONTROL_PLANE" "sudo cat /etc/kubernetes/pki/etcd/ca.crt"
  save front-proxy-ca.crt remote "$CONTROL_PLANE" "sudo cat /etc/kubernetes/pki/front-proxy-ca.crt"
  # The egress selector, where the API server has one.
  save egress-selector.yaml remote "$CONTROL_PLANE" \
    "f=\$(sudo sed -n 's/.*--egress-selector-config-file=\\([^\" ]*\\).*/\\1/p' /etc/kubernetes/manifests/kube-apiserver.yaml); [ -n \"\$f\" ] && sudo cat \"\$f\""
fi
for node in $NODES; do
  save "kubelet-$node.conf" remote "$node" "$(shown /etc/kubernetes/kubelet.conf)"
done
