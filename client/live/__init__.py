"""The live state: what GET /state and GET /events tell of the deployment. Of what others know it
asks as long as somebody watches, and in no thread that answers requests."""
