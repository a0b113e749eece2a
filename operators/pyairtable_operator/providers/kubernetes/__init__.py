"""The Kubernetes provider: the mesh is what a cluster's Services and EndpointSlices say now.

A Service takes part when its namespace has the label ``mesh.pyairtable.io/enabled=true``, or is the control plane's
own, and one of its ports is marked as gRPC: by ``appProtocol: grpc`` or ``kubernetes.io/h2c``, by a name that begins
with ``grpc``, or by the Service's label ``mesh.pyairtable.io/grpc-port`` with the port's name or number. An
EndpointSlice's annotation ``mesh.pyairtable.io/weight`` is the weight of each of its endpoints.

`discovery` and `policies` translate and are pure; `watch` follows the API with kopf and `pods` without it, and both
only read; `provider` joins them, and runs the `lease` that decides which replica writes Events and `statuses`, through
`client`. `reviews` asks who a caller is. kopf and the Kubernetes client are imported here alone. They come with the
extra ``pyairtable-operator[kubernetes]``, and cost a second and 50 MB, so nothing imports this package before it is
needed.
"""
