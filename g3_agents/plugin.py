"""The entry point `ocs.plugins`: the agents' classes, and their modules and main functions."""

package_name = "g3_recorder"
agents = {
    "SmurfRecorder": {"module": "g3_agents.smurf_recorder", "entry_point": "main"},
    "SmurfIngest": {"module": "g3_agents.smurf_ingest", "entry_point": "main"},
    "SmurfArchiver": {"module": "g3_agents.smurf_archiver", "entry_point": "main"},
}
