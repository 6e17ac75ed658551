
# OpenShift keeps the flags of its control plane in ConfigMaps, and writes the communication matrix for --expect.
save kube-apiserver.json $KUBECTL get configmap config --namespace openshift-kube-apiserver -o json
save etcd-ca.json $KUBECTL get configmap etcd-ca-bundle --namespace openshift-etcd -o json
save kubelet-ca.json $KUBECTL get configmap kubelet-serving-ca --namespace openshift-kube-apiserver -o json
if $KUBECTL commatrix --help >/dev/null 2>&1; then
  $KUBECTL commatrix generate --format csv --destDir "$folder.matrix" >&2 || note "not gathered: communication matrix"
else
  note "oc commatrix is not installed: no communication matrix (https://github.com/openshift-kni/commatrix)"
fi
