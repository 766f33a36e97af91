"""Cases that open by themselves without anybody sending anything: conditions, mail, files."""
