// Takes a picture with the camera of this device.

const byId = (id) => document.getElementById(id);

// Calls taken(blob) with each picture, and failed(text) where there is no camera.
export function setUpCamera(taken, failed) {
  const [dialog, video] = [byId("camera-dialog"), byId("video")];
  let facing = "environment";
  let stream = null;

  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  };
  const start = async () => {
    stop();
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 1920 } } });
    video.srcObject = stream;
  };

  byId("camera").addEventListener("click", async () => {
    // Browsers give the camera to secure pages alone; a phone's own camera program they always ask.
    if (!navigator.mediaDevices) {
      if (matchMedia("(pointer: coarse)").matches) byId("photo").click();
      else failed("Browsers give the camera only to pages of this machine or over https: start the server with --tls-cert and --tls-key.");
      return;
    }
    try {
      await start();
      dialog.showModal();
    } catch (error) {
      stop();
      failed(`The camera cannot be used: ${error.message}`);
    }
  });
  byId("take").addEventListener("click", () => {
    if (!video.videoWidth) return;
    const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => taken(blob), "image/jpeg", 0.95);
    dialog.close();
  });
  byId("other-camera").addEventListener("click", () => {
    facing = facing === "user" ? "environment" : "user";
    start().catch((error) => failed(`The camera cannot be used: ${error.message}`));
  });
  byId("close-camera").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop);
}
