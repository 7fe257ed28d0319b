package sink

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestACLIsClearedBeforeTheMode: the ACL that a directory gives is gone while the mode still lets
// nobody in.
func TestACLIsClearedBeforeTheMode(t *testing.T) {
	dir := t.TempDir()
	file, err := os.OpenFile(filepath.Join(dir, "token"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	acl, _, err := readersACL(0o600, []int{65533}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fsetxattr(int(file.Fd()), aclAttribute, acl, 0); err != nil {
		t.Skipf("no POSIX ACLs here: %v", err)
	}
	if err := clearACL(file); err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 || !hasACL(file, nil) {
		t.Errorf("mode %s, without an ACL: %t", info.Mode(), hasACL(file, nil))
	}
}
