package policy

// Advice is what credagent knows about an error of a server, such as one of Entra's error numbers.
type Advice struct {
	Class      Class
	ClientWide bool   // concerns the client, not only the requested token
	Do         string // what a person should do
}

// Advise returns the advice for the first known AADSTS number.
func Advise(codes []int) (Advice, bool) {
	for _, code := range codes {
		if advice, known := entra(code); known {
			return advice, true
		}
	}
	return Advice{}, false
}

// entra has the numbers of Entra's error reference that a client-credentials client can get.
func entra(code int) (Advice, bool) {
	switch code {
	case 50033, 90006, 90012, 90024, 90033, 90055, 90090:
		return Advice{Transient, true, "wait: Entra has a passing fault"}, true
	case 50196:
		return Advice{Throttled, true, "stop other programs that request tokens for this client in a loop"}, true
	case 7000215:
		return Advice{Credential, true, "put the secret's value, not its id, into secret_file; a new secret can take minutes to be known everywhere"}, true
	case 7000222:
		return Advice{Credential, true, "the client secret has expired: add a new one to the app registration and write it to secret_file"}, true
	case 700027, 7000274, 7000277, 1000502:
		return Advice{Credential, true, "upload the certificate to the app registration, or fix certificate_file; compare the thumbprint in this message with the registered ones"}, true
	case 700024:
		return Advice{Credential, true, "the assertion is outside its time: check this host's clock against the server's"}, true
	case 7000214, 700030, 70002, 50012, 700025, 7000218:
		return Advice{Credential, true, "check the client's credential against the app registration"}, true
	case 70021, 700211, 700212, 700213, 7002138, 7002139:
		return Advice{Credential, true, "no federated credential matches: compare issuer, subject and audience of the assertion with the app registration, letter case included; a new federated credential can take minutes to be known everywhere"}, true
	case 7000229:
		return Advice{Configuration, true, "the application has no service principal in this tenant: create one (az ad sp create --id CLIENT_ID) or grant admin consent; a new one can take minutes to be known everywhere"}, true
	case 65001, 65005, 650052, 650056:
		return Advice{Configuration, false, "grant admin consent for the application's permissions on this resource"}, true
	case 90002:
		return Advice{Configuration, true, "the tenant does not exist in this cloud: check entra.tenant and entra.cloud"}, true
	case 700016, 700011:
		return Advice{Configuration, true, "the application is not in this tenant: check client_id and entra.tenant; a new one can take minutes to appear"}, true
	case 7000112, 70001:
		return Advice{Configuration, true, "the application is disabled or unknown in this tenant: enable it or check client_id"}, true
	case 70011, 1002012, 700022:
		return Advice{Configuration, false, "give exactly one scope, the resource's identifier followed by /.default"}, true
	case 500011, 650057, 100007:
		return Advice{Configuration, false, "the resource is not in this tenant or not granted: check the scope and the app's permissions"}, true
	case 501051:
		return Advice{Configuration, false, "assign the application a role of the resource"}, true
	case 53003, 530032, 530034, 530035:
		return Advice{Refused, false, "a conditional access policy for workload identities blocks this sign-in: look at the sign-in log by the correlation id"}, true
	case 7000114, 9001023:
		return Advice{Configuration, true, "the tenant or application may not use this grant: give the tenant's own id or domain, not common or organizations"}, true
	}
	return Advice{}, false
}
