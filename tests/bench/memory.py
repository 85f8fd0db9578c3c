def agent_rows(f,s): return []
def segment_rows(f,s): return []
