package lensmesh

import (
	"context"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	routerv1 "lensmesh/clients/go/gen/router/v1"
)

// Find searches a collection; "" means the mesh's default. Several queries are fused. limit 0 means the server's
// default. For filters, groups and all else, fill a request and call FindWith.
func (c *Client) Find(
	ctx context.Context, collection string, limit int, queries ...*routerv1.Query,
) (*routerv1.SearchResponse, error) {
	if limit < 0 {
		return nil, invalid(ReasonLimitOutOfRange, "limit", "limit is %d: give 0 or more", limit)
	}
	return c.FindWith(ctx, &routerv1.SearchRequest{Collection: collection, Limit: uint32(limit), Queries: queries})
}

// FindWith searches as the request says.
func (c *Client) FindWith(ctx context.Context, request *routerv1.SearchRequest) (*routerv1.SearchResponse, error) {
	return c.Router().Search(ctx, request)
}

// FindMany makes many searches, in calls that are cut to the server's limits. A bad one fails alone.
func (c *Client) FindMany(
	ctx context.Context, searches []*routerv1.SearchRequest,
) ([]Answer[*routerv1.SearchResponse], error) {
	return batch[*routerv1.SearchRequest, *routerv1.SearchResponse]{
		measure: func(_ int, search *routerv1.SearchRequest) (int, *Error) { return sized(search), nil },
		call: func(
			ctx context.Context, searches []*routerv1.SearchRequest,
		) ([]Answer[*routerv1.SearchResponse], error) {
			answer, err := c.Router().BatchSearch(ctx, &routerv1.BatchSearchRequest{Searches: searches})
			return answersOf(answer.GetResults(), found), err
		},
	}.run(ctx, c, searches)
}

func found(result *routerv1.BatchSearchResult) (*routerv1.SearchResponse, *statuspb.Status) {
	return result.GetResponse(), result.GetError()
}

// TextQuery asks for images that show what a text says.
func TextQuery(text string) *routerv1.Query {
	return &routerv1.Query{Query: &routerv1.Query_Text{Text: text}}
}

// ImageQuery asks for images like this one, given as the bytes of its file.
func ImageQuery(content []byte) *routerv1.Query {
	return &routerv1.Query{Query: &routerv1.Query_Image{Image: imageOf(content)}}
}

// ItemQuery asks for images like that of a stored item.
func ItemQuery(id string) *routerv1.Query {
	return &routerv1.Query{Query: &routerv1.Query_ItemId{ItemId: id}}
}

// WordsQuery asks for images whose caption holds these words.
func WordsQuery(words string) *routerv1.Query {
	return &routerv1.Query{Query: &routerv1.Query_CaptionText{CaptionText: words}}
}
