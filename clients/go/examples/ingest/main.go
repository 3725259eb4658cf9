// Ingest makes the images of a folder findable, then searches them.
//
//	go run ./examples/ingest -target 127.0.0.1:50050 -collection boats photographs "a red boat"
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	lensmesh "lensmesh/clients/go"
	routerv1 "lensmesh/clients/go/gen/router/v1"
)

func main() {
	target := flag.String("target", "127.0.0.1:50050", "address of the router")
	collection := flag.String("collection", "", "where the images go; empty means the mesh's default")
	authorities := flag.String("ca", "", "file of the authorities that the router's certificate is signed by: encrypts")
	certificate := flag.String("cert", "", "file of a certificate to show the router")
	key := flag.String("key", "", "file of its key")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: ingest [flags] FOLDER TEXT")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	// Ctrl-C ends the calls; what has a result is stored.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var options []lensmesh.Option
	if *authorities != "" {
		options = append(options, lensmesh.WithTLSFiles(*authorities, *certificate, *key))
	}
	if err := run(ctx, *target, options, *collection, flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, target string, options []lensmesh.Option, collection, folder, text string) error {
	client, err := lensmesh.Dial(target, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	var last lensmesh.Progress
	config := lensmesh.IngestConfig{
		Options:    &routerv1.IngestOptions{Collection: collection},
		OnProgress: func(progress lensmesh.Progress) { last = progress },
		OnResume: func(err *lensmesh.Error, waiting int) {
			fmt.Fprintf(os.Stderr, "%v: %d items are sent again\n", err, waiting)
		},
	}
	for result, err := range client.Ingest(ctx, lensmesh.Folder(folder), config) {
		if err != nil {
			return err
		}
		if result.Err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", result.Ref, result.Err)
		}
	}
	fmt.Printf("%d images, %d of them failed\n", last.Done, last.Failed)

	found, err := client.Find(ctx, collection, 5, lensmesh.TextQuery(text))
	if err != nil {
		return err
	}
	for _, hit := range found.GetHits() {
		fmt.Printf("%.3f  %s  %s\n", hit.GetScore(), hit.GetItem().GetId(), hit.GetItem().GetCaption().GetText())
	}
	return nil
}
