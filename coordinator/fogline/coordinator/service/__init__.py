"""gRPC edges: translate, call, translate back."""
