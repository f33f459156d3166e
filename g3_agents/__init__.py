"""The recorder as OCS agents: SmurfIngest runs ingest, SmurfArchiver runs archiver, SmurfRecorder runs both."""
