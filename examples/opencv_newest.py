"""The newest image of a running stream in OpenCV: opencv_newest.py OUT.png [ADDRESS CONTROL]."""

import sys

import cv2

import nire_live as nl

with nl.connect(*sys.argv[2:4]) as stream:
    image = stream.newest().pixels  # uint8 [H, W, 1] gray, or [H, W, 3] RGB
    cv2.imwrite(sys.argv[1], cv2.Canny(image, 50, 150))
