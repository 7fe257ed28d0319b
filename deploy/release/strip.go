package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// kept is the one symbol that the program needs at run time: where Go's runtime keeps what became of
// each signal before it began (see internal/supervise). The linker can only keep all or none.
const kept = "runtime.fwdSig"

const (
	symbolSize  = 24 // bytes of an Elf64_Sym
	sectionSize = 64 // bytes of an Elf64_Shdr
)

// strip removes all symbols of a program for Linux but the one that it needs. They are among the last that
// Go's linker writes into the file, behind all that is loaded, so that stays where it is.
func strip(path string) error {
	data, err := os.ReadFile(path)
	if err == nil {
		data, err = stripped(data)
	}
	if err != nil {
		return fmt.Errorf("stripping %q: %w", path, err)
	}
	return os.WriteFile(path, data, 0o755) //nolint:gosec // a program
}

func stripped(data []byte) ([]byte, error) {
	program, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	symbols, names := program.SectionByType(elf.SHT_SYMTAB), program.Section(".strtab")
	if program.Class != elf.ELFCLASS64 || program.Data != elf.ELFDATA2LSB || symbols == nil || names == nil {
		return nil, errors.New("it is no 64-bit little-endian program with symbols; build it without -ldflags=-s")
	}
	one, err := symbolOf(data[symbols.Offset:symbols.Offset+symbols.Size], program)
	if err != nil {
		return nil, err
	}
	at := min(symbols.Offset, names.Offset)
	out := bytes.Clone(data[:at])
	headers := binary.LittleEndian.Uint64(out[40:]) // e_shoff
	for i, s := range program.Sections {
		if s.Offset < at || s.Type == elf.SHT_NOBITS {
			continue
		}
		content := data[s.Offset : s.Offset+s.FileSize]
		switch {
		case s.Flags&elf.SHF_ALLOC != 0:
			return nil, fmt.Errorf("section %s is behind its symbols, and would be loaded from another place", s.Name)
		case s == symbols:
			content = append(make([]byte, symbolSize), one...) // the first symbol is empty
		case s == names:
			content = []byte("\x00" + kept + "\x00")
		}
		out = append(out, make([]byte, -len(out)&7)...)
		header := out[headers+uint64(i)*sectionSize:]
		binary.LittleEndian.PutUint64(header[24:], uint64(len(out)))     // sh_offset
		binary.LittleEndian.PutUint64(header[32:], uint64(len(content))) // sh_size
		if s == symbols {
			binary.LittleEndian.PutUint32(header[44:], 1) // sh_info: the first that is not local
		}
		out = append(out, content...)
	}
	return out, nil
}

// symbolOf is the entry of the symbol that is kept, under the name at the beginning of the new table, and global.
func symbolOf(table []byte, program *elf.File) ([]byte, error) {
	all, err := program.Symbols()
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if s.Name == kept {
			one := bytes.Clone(table[(i+1)*symbolSize : (i+2)*symbolSize]) // Symbols leaves the empty one out
			binary.LittleEndian.PutUint32(one, 1)
			one[4] = byte(elf.STB_GLOBAL)<<4 | one[4]&0xf
			return one, nil
		}
	}
	return nil, fmt.Errorf("it has no symbol %s, by which exec knows which signals were ignored", kept)
}
