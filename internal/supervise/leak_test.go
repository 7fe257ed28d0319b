package supervise

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/credagent/credagent/testkit/leaktest"
)

// reportVariable makes the test binary print which signals it was started with ignored.
const reportVariable = "SUPERVISE_TEST_REPORT"

func TestMain(m *testing.M) {
	if os.Getenv(reportVariable) != "" {
		reportIgnored()
	}
	os.Exit(leaktest.Main(m))
}

func reportIgnored() {
	var numbers []string
	for _, s := range ignoredAtStart() {
		numbers = append(numbers, strconv.Itoa(int(s)))
	}
	fmt.Println(strings.Join(numbers, " "))
	os.Exit(0)
}
