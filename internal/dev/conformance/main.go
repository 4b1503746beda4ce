// Command conformance is the server that the official Connect conformance
// suite tests: it reads one ServerCompatRequest on standard input, serves
// ConformanceService as it says, answers with one ServerCompatResponse, and
// stops at SIGTERM. The suite closes standard input at once: its end means
// nothing. `go run ./internal/dev conformance` runs the suite.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1"
)

func main() {
	withoutKey := flag.Bool("without-key", false, "add no API key to the calls: every one must be refused")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serveSuite(ctx, os.Stdin, os.Stdout, os.Stderr, !*withoutKey); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// serveSuite answers one request of the suite's runner with a running server,
// and returns when ctx has ended and the server has stopped.
func serveSuite(ctx context.Context, in io.Reader, out, report io.Writer, withKey bool) error {
	var request conformancev1.ServerCompatRequest
	if err := readMessage(in, &request); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	server, err := start(context.WithoutCancel(ctx), &request, withKey)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := writeMessage(out, server.response()); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return server.serve(ctx, report)
}

// maxRequest bounds a request of the runner, certificates included.
const maxRequest = 1 << 20

// readMessage reads a message behind its size, four bytes, big-endian.
func readMessage(in io.Reader, message proto.Message) error {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxRequest {
		return fmt.Errorf("a message of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(in, text); err != nil {
		return err
	}
	return proto.Unmarshal(text, message)
}

// writeMessage is the other direction of readMessage.
func writeMessage(out io.Writer, message proto.Message) error {
	text, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	_, err = out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}
