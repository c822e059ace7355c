"""The newest image of a running stream in OpenCV: opencv_newest.py [OUT.png [ADDRESS CONTROL]]."""

import sys

import cv2

import nire_live as nl

out, *addresses = sys.argv[1:] or ["newest.png"]
with nl.connect(*addresses) as stream:
    image = stream.newest().pixels  # uint8 [H, W, 1] gray, or [H, W, 3] RGB
    cv2.imwrite(out, cv2.Canny(image, 50, 150))
