package main

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// writeZip packs a directory, below a top directory of the archive, for the systems that have no
// tar of old. Names are sorted and the files keep their modification times, which release.sh sets,
// so that the same files make the same archive.
func writeZip(dir, top string, out io.Writer) error {
	archive := zip.NewWriter(out)
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		return addFile(archive, files, name, path.Join(top, name))
	})
	if err != nil {
		return fmt.Errorf("packing %q: %w", dir, err)
	}
	return archive.Close()
}

func addFile(archive *zip.Writer, files fs.FS, name, as string) error {
	file, err := files.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header, err := zip.FileInfoHeader(info)
	if err != nil {
		return err
	}
	header.Name, header.Method, header.Modified = as, zip.Deflate, info.ModTime().UTC()
	entry, err := archive.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, file)
	return err
}
