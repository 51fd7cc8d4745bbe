"""Face detectors: the protocol, and YuNet; MTCNN, the default, is in mesm_data.media.faces.mtcnn."""
