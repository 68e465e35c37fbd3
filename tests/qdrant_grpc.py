"""The gRPC side of the stand-in for Qdrant's server (see qdrant_server.py): the calls that
retrieval.store makes, and no others. qdrant-client's own converters translate."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc as rpc
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, payload_to_grpc

_DONE = grpc.PointsOperationResponse(
    result=grpc.UpdateResult(operation_id=0, status=grpc.UpdateStatus.Completed)
)


class Collections(grpc.CollectionsServicer):
    def __init__(self, client, lock):
        self.client, self.lock = client, lock

    def CollectionExists(self, request, _):
        with self.lock:
            exists = self.client.collection_exists(request.collection_name)
        return grpc.CollectionExistsResponse(result=grpc.CollectionExists(exists=exists))

    def Get(self, request, _):
        with self.lock:
            info = self.client.get_collection(request.collection_name)
        return grpc.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def Create(self, request, _):
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        metadata = GrpcToRest.convert_payload(request.metadata)
        with self.lock:
            self.client.create_collection(
                request.collection_name, vectors_config=vectors, metadata=metadata
            )
        return grpc.CollectionOperationResponse(result=True)

    def Delete(self, request, _):
        with self.lock:
            self.client.delete_collection(request.collection_name)
        return grpc.CollectionOperationResponse(result=True)


class Points(grpc.PointsServicer):
    def __init__(self, client, lock):
        self.client, self.lock = client, lock

    def CreateFieldIndex(self, *_):
        return _DONE

    def Upsert(self, request, _):
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        with self.lock:
            self.client.upsert(request.collection_name, points)
        return _DONE

    def Get(self, request, _):
        ids = [point.uuid for point in request.ids]
        with self.lock:
            found = self.client.retrieve(request.collection_name, ids, with_payload=False)
        ids = [grpc.PointId(uuid=str(record.id)) for record in found]
        return grpc.GetResponse(result=[grpc.RetrievedPoint(id=one) for one in ids])

    def Count(self, request, _):
        where = _filter(request)
        with self.lock:
            count = self.client.count(request.collection_name, count_filter=where).count
        return grpc.CountResponse(result=grpc.CountResult(count=count))

    def Delete(self, request, _):
        where = GrpcToRest.convert_filter(request.points.filter)
        with self.lock:
            self.client.delete(request.collection_name, models.FilterSelector(filter=where))
        return _DONE

    def Query(self, request, _):
        query = GrpcToRest.convert_query(request.query)
        with self.lock:
            found = self.client.query_points(
                request.collection_name,
                query=query,
                limit=request.limit,
                query_filter=_filter(request),
                with_payload=request.with_payload.enable,
            )
        return grpc.QueryResponse(result=[_scored(point) for point in found.points])


def _filter(request):
    return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None


def _scored(point):
    return grpc.ScoredPoint(
        id=grpc.PointId(uuid=str(point.id)),
        payload=payload_to_grpc(point.payload or {}),
        score=point.score,
    )


class Key(rpc.ServerInterceptor):
    """Turns away who has not the key, as Qdrant does."""

    def __init__(self, key):
        self.key = key

        def refuse(_, context):
            context.abort(rpc.StatusCode.UNAUTHENTICATED, "Must provide an API key")

        self.refusal = rpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation, call):
        given = dict(call.invocation_metadata).get("api-key")
        return continuation(call) if given == self.key else self.refusal


@contextlib.contextmanager
def running(client, lock, key):
    """The port at which it answers, for the points of `client`."""
    server = rpc.server(ThreadPoolExecutor(4), interceptors=[Key(key)])
    grpc.add_CollectionsServicer_to_server(Collections(client, lock), server)
    grpc.add_PointsServicer_to_server(Points(client, lock), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
