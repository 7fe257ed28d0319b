package assertion

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/spiffe"
)

// openSPIFFE is a JWT-SVID of the provider's own process, from the Workload API.
func openSPIFFE(h host, settings json.RawMessage, audience string) (getter, error) {
	var c spiffe.Config
	err := plugins.DecodeConfig(settings, &c)
	return func(ctx context.Context) (secret.Value, error) {
		socket, err := c.Path(h.getenv)
		if err != nil {
			return secret.Value{}, err
		}
		return spiffe.JWT(ctx, socket, audience)
	}, errors.Join(err, c.Check())
}
