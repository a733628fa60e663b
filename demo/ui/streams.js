// Before gradio's scripts: what is asked for after the server has closed the page's stream of answers is answered when the
// page has heard of that; so gradio opens another stream and misses nothing. See streams.py.
{
  const PATIENCE_MS = 10_000; // with a word that was lost
  const heard = new Map(); // by the number of a stream that is open here: a promise of its end
  const plain = window.fetch;

  window.fetch = async (...asked) => {
    const answer = await plain(...asked);
    const closed = heard.get(answer.headers.get("x-stream-closed"));
    if (closed) await Promise.race([closed, new Promise((done) => setTimeout(done, PATIENCE_MS))]);
    const number = answer.headers.get("x-stream");
    if (!number || !answer.ok) return answer;
    const { readable, writable } = new TransformStream();
    const piped = answer.body.pipeTo(writable).catch(() => {}); // gradio hangs up when it hears that it is closed
    const end = piped.then(() => new Promise((done) => setTimeout(done))); // after who reads it has
    heard.set(number, end.then(() => heard.delete(number)));
    return new Response(readable, answer);
  };
}
