//go:build tools

// Package tools pins what the depot builds; it is never compiled.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
