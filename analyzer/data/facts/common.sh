#!/bin/sh
# Gathers what `planewire analyze CAPTURE --cluster FOLDER` reads about a cluster. It only reads: kubectl get, and
# reading files over ssh where that is needed. Look through it, then run it where kubectl works:
#
#     sh gather.sh [FOLDER]
#
# No secrets are gathered: Secret objects are not asked for, environment variables and command lines of workloads are
# left out, and of kubeconfigs only the lines that name servers and CAs leave their host.
# Never copy into FOLDER: *.key, sa.key and other private keys; admin.conf, super-admin.conf, kubelet.conf,
# controller-manager.conf, scheduler.conf or any other kubeconfig as it is; token files; Secret objects.
set -eu
umask 077
folder=${1:-cluster-facts}
KUBECTL=${KUBECTL:-@KUBECTL@}
SSH=${SSH:-ssh}
mkdir -p "$folder"

note() { printf '%s\n' "$*" >&2; }

# save FILE COMMAND...: the command's output in FILE; nothing is left where it fails.
save() {
  file=$folder/$1
  shift
  if "$@" >"$file.part" 2>"$folder/.error"; then
    mv "$file.part" "$file"
  else
    note "not gathered: ${file##*/}: $(head -n 1 "$folder/.error")"
    rm -f "$file.part"
  fi
  rm -f "$folder/.error"
}

# Nodes, Services and what is behind them.
save cluster.json $KUBECTL get nodes,services,endpointslices.discovery.k8s.io --all-namespaces -o json

# Pods: names, addresses and ports; of the control plane's own programs their flags as well.
pods='{"kind":"PodList","items":[{{range $i,$pod := .items}}{{if $i}},{{end}}
{"metadata":{"name":{{printf "%q" .metadata.name}},"namespace":{{printf "%q" .metadata.namespace}},
"uid":{{printf "%q" .metadata.uid}},"labels":{ {{- $n := 0}}{{range $key,$value := .metadata.labels}}
{{- if $n}},{{end}}{{$n = 1}}{{printf "%q:%q" $key $value}}{{end}} }},
"spec":{"nodeName":{{printf "%q" (or .spec.nodeName "")}},"hostNetwork":{{or .spec.hostNetwork false}},
"containers":[{{range $j,$c := .spec.containers}}{{if $j}},{{end}}{"name":{{printf "%q" .name}}
{{- $known := or (eq .name "kube-apiserver") (eq .name "etcd") (eq .name "kube-controller-manager") (eq .name "kube-scheduler")
  (eq .name "konnectivity-agent") (eq .name "konnectivity-server") -}}
{{- if $known}},"command":[{{range $k,$word := .command}}{{if $k}},{{end}}{{printf "%q" $word}}{{end}}]
{{- /* Arguments may follow the command. */ -}}
,"args":[{{range $k,$word := .args}}{{if $k}},{{end}}{{printf "%q" $word}}{{end}}]{{end}}
,"ports":[{{range $k,$p := .ports}}{{if $k}},{{end}}{"containerPort":{{.containerPort}}}{{end}}]}{{end}}]},
"status":{"phase":{{printf "%q" (or .status.phase "")}},"podIPs":[{{range $k,$ip := .status.podIPs}}{{if $k}},{{end}}
{"ip":{{printf "%q" $ip.ip}}}{{end}}]}}{{end}}]}'
save pods.json $KUBECTL get pods --all-namespaces -o "go-template=$pods"

# Whom the API server calls, and whether it checks them; caBundles are public.
save called.json $KUBECTL get \
  validatingwebhookconfigurations,mutatingwebhookconfigurations,apiservices.apiregistration.k8s.io -o json

# CA certificates, which are public: the cluster's, and those that client certificates are checked against.
save ca.json $KUBECTL get configmap kube-root-ca.crt --namespace default -o json
save client-ca.json $KUBECTL get configmap extension-apiserver-authentication --namespace kube-system -o json

# The configuration each kubelet runs with. A header it may send to fetch static pods can hold a token: it is dropped.
nodes=$($KUBECTL get nodes -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}')
without_headers() { sed 's/"staticPodURLHeader": *{[^}]*}/"staticPodURLHeader":{}/'; }
configz() { answer=$($KUBECTL get --raw "/api/v1/nodes/$1/proxy/configz") && printf '%s\n' "$answer" | without_headers; }
for node in $nodes; do
  save "kubelet-config-$node.json" configz "$node"
done
