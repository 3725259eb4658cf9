package lensmesh

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	commonv1 "lensmesh/clients/go/gen/common/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
)

// Item is one image to make findable.
type Item struct {
	// The caller's own, returned in the result; never sent.
	Ref string
	// What it is stored under; "" means the hexadecimal SHA-256 of the image, so that the same image is stored once.
	ID string
	// The bytes of the image's file. They must not change before the result is there.
	Image []byte
	// Reads the image, where Image is nil, when there is room for it. It need not return more than mostBytes; 0 sets no
	// limit. Its error becomes that of the item.
	Load func(mostBytes uint64) ([]byte, error)
	// Kept with the image: strings, numbers, booleans, nil, and lists ([]any) and maps (map[string]any) of them.
	Metadata map[string]any
	// Used in place of a generated caption.
	Caption string
	// Where the image lies, for people: kept, never fetched.
	ImageURI string
}

// File returns the item of an image in a file, read when it is its turn. Ref is the path.
func File(path string) Item {
	return Item{Ref: path, Load: func(mostBytes uint64) ([]byte, error) { return readFile(path, mostBytes) }}
}

func readFile(path string, mostBytes uint64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	} else if mostBytes > 0 && uint64(info.Size()) > mostBytes {
		return nil, invalid(ReasonImageTooLarge, "image",
			"%s has %d bytes and the limit is %d: encode it again or scale it down", path, info.Size(), mostBytes)
	}
	if mostBytes == 0 {
		return io.ReadAll(file)
	}
	// A file may grow while it is read.
	return io.ReadAll(io.LimitReader(file, int64(min(mostBytes, 1<<40))+1))
}

var imageSuffixes = []string{".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

// Folder returns the images of a folder and the folders in it, in the order of their names; links to folders are not
// followed. A folder that cannot be read is an item that fails.
func Folder(root string) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				fails := func(uint64) ([]byte, error) { return nil, err }
				if !yield(Item{Ref: path, Load: fails}) {
					return filepath.SkipAll
				}
			case !entry.IsDir() && slices.Contains(imageSuffixes, strings.ToLower(filepath.Ext(path))):
				if !yield(File(path)) {
					return filepath.SkipAll
				}
			}
			return nil
		})
	}
}

// message returns what is sent of an item, with its place in the input as ref, and why it cannot be sent, if it cannot.
func message(item Item, index int, limits *commonv1.Limits) (*routerv1.IngestItem, *Error) {
	sent := &routerv1.IngestItem{Ref: strconv.Itoa(index), Id: item.ID, Caption: item.Caption, ImageUri: item.ImageURI}
	for field, text := range map[string]string{"id": item.ID, "caption": item.Caption, "image_uri": item.ImageURI} {
		if !utf8.ValidString(text) {
			return sent, invalid(reasonOfField(field), field, "%s is not UTF-8", field)
		}
	}
	if item.Metadata != nil {
		most := int(limits.GetMaxMetadataDepth())
		if most == 0 {
			most = maxMetadataDepth
		}
		if deeper(item.Metadata, most) {
			return sent, invalid(ReasonMetadataInvalid, "metadata",
				"the metadata has more than %d levels of lists and objects", most)
		}
		metadata, err := structpb.NewStruct(item.Metadata)
		if err != nil {
			return sent, invalid(ReasonMetadataInvalid, "metadata", "the metadata cannot be sent: %v", err)
		}
		sent.Metadata = metadata
	}
	content := item.Image
	if content == nil && item.Load != nil {
		read, err := item.Load(limits.GetMaxImageBytes())
		if known, typed := err.(*Error); typed {
			return sent, known
		}
		if err != nil {
			refused := invalid(ReasonImageMissing, "image", "the image cannot be read: %v", err)
			refused.cause = err
			return sent, refused
		}
		content = read
	}
	if len(content) == 0 {
		return sent, invalid(ReasonImageEmpty, "image", "the image has no bytes")
	}
	if refused := imageTooLarge("image", len(content), limits); refused != nil {
		return sent, refused
	}
	digest := sha256.Sum256(content)
	sent.Image, sent.ContentDigest = imageOf(content), digest[:]
	return sent, nil
}

// Levels that are looked at where the server tells no limit: metadata that holds itself has no end.
const maxMetadataDepth = 100

// deeper tells whether a value has more than so many levels of lists and maps.
func deeper(value any, levels int) bool {
	var inner iter.Seq[any]
	switch one := value.(type) {
	case map[string]any:
		inner = maps.Values(one)
	case []any:
		inner = slices.Values(one)
	default:
		return false
	}
	if levels == 0 {
		return true
	}
	for part := range inner {
		if deeper(part, levels-1) {
			return true
		}
	}
	return false
}

// key returns what an item is stored under.
func key(sent *routerv1.IngestItem) string {
	if sent.GetId() != "" {
		return sent.GetId()
	}
	return hex.EncodeToString(sent.GetContentDigest())
}

func reasonOfField(field string) Reason {
	if field == "id" {
		return ReasonItemIDInvalid
	}
	return ReasonTextInvalid
}
