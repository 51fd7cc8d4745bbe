"""Face detection (MTCNN, the default, and YuNet) and cropping."""
