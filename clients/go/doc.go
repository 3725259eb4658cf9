// Package lensmesh is a client of the Router: images and words in, found images out.
//
// It is a thin layer over the code that protoc makes of the contracts (gen/). The layer does what every caller would
// have to write: it repeats calls that may be repeated, turns errors into [Error], cuts batches to the limits that the
// server tells, and resumes a broken stream of images. Whatever it has no method for is called by the generated stubs,
// which [Client.Router], [Client.Encoder], [Client.Captioner] and [Client.Search] return.
//
//	client, err := lensmesh.Dial("127.0.0.1:50050")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	for result, err := range client.Ingest(ctx, lensmesh.Folder("photographs"), lensmesh.IngestConfig{}) {
//		...
//	}
//	found, err := client.Find(ctx, "", 10, lensmesh.TextQuery("a red boat"))
//
// All methods may be called by several goroutines at once. A context that ends, ends what runs under it.
package lensmesh
