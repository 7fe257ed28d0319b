package config

// feature is a part of the configuration that a version of credagent may lack.
type feature string

const (
	featureIdentity feature = "identity_endpoint"
)

type featureSet map[feature]bool

// unavailable is what this version does not do yet: such a key is read and checked, and then
// refused, so that a configuration never promises what does not happen.
var unavailable = featureSet{
	featureIdentity: true,
}

// needs reports a problem at path when it asks for a feature that this version lacks.
func (v *validator) needs(f feature, path string) {
	if v.without[f] {
		v.add(path, "", "not available in this version of credagent")
	}
}
