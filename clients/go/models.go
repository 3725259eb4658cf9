package lensmesh

import (
	"context"
	"fmt"
	"unicode/utf8"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	captionv1 "lensmesh/clients/go/gen/caption/v1"
	commonv1 "lensmesh/clients/go/gen/common/v1"
	encoderv1 "lensmesh/clients/go/gen/encoder/v1"
)

// EncodeTexts makes a vector of each text. Calls are cut to the server's limits; a bad text fails alone. options may be
// nil. The error is that of a whole call.
func (c *Client) EncodeTexts(
	ctx context.Context, texts []string, options *encoderv1.EncodeOptions,
) ([]Answer[*encoderv1.EncodeResult], error) {
	return batch[string, *encoderv1.EncodeResult]{
		measure: func(index int, text string) (int, *Error) {
			if !utf8.ValidString(text) {
				field := fmt.Sprintf("texts[%d]", index)
				return 0, invalid(ReasonTextInvalid, field, "%s is not UTF-8", field)
			}
			return len(text), nil
		},
		beside: sized(options),
		call: func(ctx context.Context, texts []string) ([]Answer[*encoderv1.EncodeResult], error) {
			answer, err := c.Encoder().EncodeTexts(ctx, &encoderv1.EncodeTextsRequest{Texts: texts, Options: options})
			return answersOf(answer.GetResults(), encoded), err
		},
	}.run(ctx, c, texts)
}

// EncodeImages makes a vector of each image, given as the bytes of its file. Calls are cut to the server's limits; a bad
// image fails alone. options may be nil. The error is that of a whole call.
func (c *Client) EncodeImages(
	ctx context.Context, images [][]byte, options *encoderv1.EncodeOptions,
) ([]Answer[*encoderv1.EncodeResult], error) {
	measure, err := c.imageMeasure(ctx)
	if err != nil {
		return nil, err
	}
	return batch[[]byte, *encoderv1.EncodeResult]{
		measure: measure,
		beside:  sized(options),
		call: func(ctx context.Context, images [][]byte) ([]Answer[*encoderv1.EncodeResult], error) {
			request := &encoderv1.EncodeImagesRequest{Images: imagesOf(images), Options: options}
			answer, err := c.Encoder().EncodeImages(ctx, request)
			return answersOf(answer.GetResults(), encoded), err
		},
	}.run(ctx, c, images)
}

// Caption describes each image, given as the bytes of its file. Calls are cut to the server's limits; a bad image fails
// alone. options may be nil. The error is that of a whole call.
func (c *Client) Caption(
	ctx context.Context, images [][]byte, options *captionv1.CaptionOptions,
) ([]Answer[*commonv1.Caption], error) {
	measure, err := c.imageMeasure(ctx)
	if err != nil {
		return nil, err
	}
	return batch[[]byte, *commonv1.Caption]{
		measure: measure,
		beside:  sized(options),
		call: func(ctx context.Context, images [][]byte) ([]Answer[*commonv1.Caption], error) {
			request := &captionv1.CaptionImagesRequest{Images: imagesOf(images), Options: options}
			answer, err := c.Captioner().CaptionImages(ctx, request)
			return answersOf(answer.GetResults(), described), err
		},
	}.run(ctx, c, images)
}

func encoded(result *encoderv1.EncodeResult) (*encoderv1.EncodeResult, *statuspb.Status) {
	return result, result.GetError()
}

func described(result *captionv1.CaptionResult) (*commonv1.Caption, *statuspb.Status) {
	return result.GetCaption(), result.GetError()
}

func imagesOf(contents [][]byte) []*commonv1.Image {
	images := make([]*commonv1.Image, len(contents))
	for i, content := range contents {
		images[i] = imageOf(content)
	}
	return images
}

func imageOf(content []byte) *commonv1.Image {
	return &commonv1.Image{Source: &commonv1.Image_Content{Content: content}}
}

// imageMeasure returns the measure of images: one larger than the server takes is refused before it is sent.
func (c *Client) imageMeasure(ctx context.Context) (func(int, []byte) (int, *Error), error) {
	limits, err := c.Limits(ctx)
	if err != nil {
		return nil, err
	}
	return func(index int, image []byte) (int, *Error) {
		return len(image), imageTooLarge(fmt.Sprintf("images[%d]", index), len(image), limits)
	}, nil
}

func imageTooLarge(field string, size int, limits *commonv1.Limits) *Error {
	most := limits.GetMaxImageBytes()
	if most == 0 || uint64(size) <= most {
		return nil
	}
	return invalid(ReasonImageTooLarge, field,
		"%s has %d bytes and the limit is %d: encode it again or scale it down", field, size, most)
}
