package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// May asks the API server whether the pod's service account may do something with a Secret; name is ""
// for any of a namespace.
func (c *Client) May(ctx context.Context, verb, namespace, name string) (bool, error) {
	type attributes struct {
		Namespace string `json:"namespace"`
		Verb      string `json:"verb"`
		Resource  string `json:"resource"`
		Name      string `json:"name,omitempty"`
	}
	type spec struct {
		Attributes attributes `json:"resourceAttributes"`
	}
	body, err := json.Marshal(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       spec   `json:"spec"`
	}{"authorization.k8s.io/v1", "SelfSubjectAccessReview", spec{attributes{namespace, verb, "secrets", name}}})
	if err != nil {
		return false, err
	}
	answer, err := c.Do(ctx, Request{
		Method: http.MethodPost, Path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ContentType: JSON, Accept: JSON, Body: body,
	})
	if err != nil {
		return false, err
	}
	var review struct {
		Status *struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	if json.Unmarshal(answer, &review) != nil || review.Status == nil {
		return false, errors.New("the API server's answer is no SelfSubjectAccessReview")
	}
	return review.Status.Allowed, nil
}
