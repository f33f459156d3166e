"""The recorder as OCS agents: SmurfRecorder, and its two halves, SmurfIngest and SmurfArchiver."""
