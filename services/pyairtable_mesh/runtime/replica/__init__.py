"""The embedded replica: what the permission service knows about the tenants that this process serves, in this process.

==========  ==========================================================================================================
asked       which types of resources an access table asks about: no others are followed
copy        `Copy`: one tenant's engine at one revision, and how messages of the stream lead it on; no gRPC
messages    changes of the stream as the engine takes them
follower    `Follower`: keeps one copy on the stream, resumes it, begins anew where that cannot be
replicas    `Replicas`: one follower for each tenant that is asked about, bounded
authorizer  `ReplicaAuthorizer`: answers in process while a copy is fresh, and asks the permission service otherwise
report      metrics, and a row of the health report
==========  ==========================================================================================================

The engine is imported with the first copy, in a thread, so that a service's start does not pay for it.
"""
