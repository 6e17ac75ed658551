
# The provider runs the control plane: its flags cannot be read, and what they would say stays undecidable. Where the
# provider's tools show some of it, keep the answer with your records; planewire does not read it:
#     EKS: aws eks describe-cluster --name NAME --query cluster.resourcesVpcConfig
#     GKE: gcloud container clusters describe NAME --format 'json(privateClusterConfig,masterAuthorizedNetworksConfig)'
#     AKS: az aks show --name NAME --resource-group GROUP --query apiServerAccessProfile
