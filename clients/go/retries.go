package lensmesh

import (
	"encoding/json"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	captionv1 "lensmesh/clients/go/gen/caption/v1"
	encoderv1 "lensmesh/clients/go/gen/encoder/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
	searchv1 "lensmesh/clients/go/gen/search/v1"
)

var contracts = []protoreflect.FileDescriptor{
	captionv1.File_lensmesh_caption_v1_caption_proto,
	encoderv1.File_lensmesh_encoder_v1_encoder_proto,
	routerv1.File_lensmesh_router_v1_router_proto,
	searchv1.File_lensmesh_search_v1_search_proto,
}

// mayBeSentAgain tells whether gRPC may repeat a call by itself: the contract says so by idempotency_level. Whoever
// sends a stream resumes it itself, since nobody else knows how much of it was done.
func mayBeSentAgain(method protoreflect.MethodDescriptor) bool {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	level := options.GetIdempotencyLevel()
	return !method.IsStreamingClient() &&
		(level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS || level == descriptorpb.MethodOptions_IDEMPOTENT)
}

// method names one method, as gRPC's service config does.
type method struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

// repeatable returns the methods of all contracts that may be sent again.
func repeatable() []method {
	var found []method
	for _, file := range contracts {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				if one := service.Methods().Get(j); mayBeSentAgain(one) {
					found = append(found, method{string(service.FullName()), string(one.Name())})
				}
			}
		}
	}
	return found
}

// serviceConfig returns gRPC's service config as JSON: round robin, health checks if asked for, and UNAVAILABLE is
// answered by up to four attempts of what may be repeated, within a budget.
func serviceConfig(healthCheck string) string {
	config := map[string]any{
		"loadBalancingConfig": []any{map[string]any{"round_robin": struct{}{}}},
		"methodConfig": []any{map[string]any{
			"name": repeatable(),
			"retryPolicy": map[string]any{
				"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
				"retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}},
		// A mesh in trouble is not helped by four times the calls: each failure costs a token, ten successes earn one.
		"retryThrottling": map[string]any{"maxTokens": 100, "tokenRatio": 0.1},
	}
	if healthCheck != "" {
		config["healthCheckConfig"] = map[string]any{"serviceName": healthCheck}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return string(text)
}
