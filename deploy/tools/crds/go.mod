// Not built: the modules whose custom resource definitions the tests load into an API server. go.sum holds what they must be.
module lensmesh/deploy/tools/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
