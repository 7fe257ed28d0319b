package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/kubeapi"
)

// secrets checks what the pod's service account may do with each Secret that the agent writes.
func (e *exam) secrets(ctx context.Context) []Finding {
	cluster := e.Cluster
	if cluster == nil {
		cluster = kubeapi.New(kubeapi.Options{})
		defer cluster.Close()
	}
	var all []Finding
	for _, s := range e.Config.Sinks {
		if !s.IsFile() {
			all = append(all, about(label(s), checkSecret(ctx, cluster, s.Secret)...)...)
		}
	}
	return all
}

func checkSecret(ctx context.Context, cluster *kubeapi.Client, s *config.Secret) []Finding {
	may := map[string]bool{}
	for _, verb := range []string{"patch", "get", "watch", "create"} {
		name := s.Name
		if verb == "create" { // whose name is not known when it is judged
			name = ""
		}
		allowed, err := cluster.May(ctx, verb, s.Namespace, name)
		if err != nil {
			return []Finding{{
				Level: Problem, What: "the API server cannot be asked: " + err.Error(), Why: "the Secret will not get its token",
				Fix: "run this in the agent's pod, and see that its service account's token is mounted",
			}}
		}
		may[verb] = allowed
	}
	all := missingRights(s, may)
	if may["get"] {
		all = append(all, standing(ctx, cluster, s, may["create"])...)
	}
	return all
}

func missingRights(s *config.Secret, may map[string]bool) []Finding {
	grant := func(verb string) string {
		return fmt.Sprintf("grant it %s on the Secret %q, as the Role in deploy/k8s/secret does", verb, s.Name)
	}
	var all []Finding
	if !may["patch"] {
		all = append(all, Finding{Level: Problem, What: "the pod's service account may not write it", Why: "the Secret will not get its token", Fix: grant("patch")})
	}
	if !may["watch"] {
		all = append(all, Finding{
			Level: Warning, What: "the pod's service account may not watch it", Why: "if somebody changes the Secret, that is noticed up to ten minutes later", Fix: grant("watch"),
		})
	}
	if !may["get"] {
		all = append(all, Finding{
			Level: Warning, What: "the pod's service account may not read it", Why: "if somebody changes the Secret, that is noticed with the next token, and a restart writes it again", Fix: grant("get"),
		})
	}
	return all
}

// standing checks the Secret as it is.
func standing(ctx context.Context, cluster *kubeapi.Client, s *config.Secret, mayCreate bool) []Finding {
	_, err := cluster.Do(ctx, kubeapi.Request{
		Method: http.MethodGet, Path: kubeapi.SecretPath(s.Namespace, s.Name), Accept: kubeapi.MetadataOnly,
	})
	var refused *kubeapi.Error
	if errors.As(err, &refused) && refused.Code == http.StatusNotFound && !mayCreate {
		return []Finding{{
			Level: Problem, What: "it does not exist, and the pod's service account may not create it", Why: "the Secret will not get its token",
			Fix: fmt.Sprintf("kubectl create secret generic %s --namespace %s --type %s", s.Name, s.Namespace, s.Type),
		}}
	}
	return nil
}
