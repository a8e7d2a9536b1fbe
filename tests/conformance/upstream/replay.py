#!/usr/bin/env python3
"""Replay the corpus over raw HTTP/1.1 against a running server and compare.

replay.py --base-url URL --engine-log FILE --flavor noauth|default
          [--variant V] [--corpus corpus/] --golden golden/
          [--known known_differences.yaml] [--show N] [--json OUT]
          [--only GLOB] [--keystone-url URL] [--record OUT.json]

Without --variant every variant of the flavor is replayed; normally a server
runs one variant, so pass it (run_all.py does).  Exit 1 on any unaccepted
difference.  Only the standard library is needed (PyYAML for --known).
"""
import argparse
import base64
import fnmatch
import glob
import json
import os
import re
import socket
import sys
import time
import urllib.parse
import urllib.request

KEEP_HEADERS = ('content-type', 'location', 'allow', 'www-authenticate',
                'vary', 'retry-after', 'access-control-allow-origin',
                'access-control-allow-credentials',
                'access-control-allow-methods',
                'access-control-allow-headers',
                'access-control-expose-headers', 'access-control-max-age')
SET_HEADERS = ('allow', 'vary', 'access-control-allow-methods',
               'access-control-allow-headers',
               'access-control-expose-headers')
REQID = re.compile(r'^req-[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-'
                   r'[a-f0-9]{12}$')
DEFAULT_HOST = 'heat.example.test:8004'


# --------------------------------------------------------------- requests
# Context keys of engines <= 25 that a client may send besides today's; each
# must carry the value of its present name.
LEGACY_CONTEXT = {'user_id': 'user', 'tenant': 'project_id',
                  'tenant_id': 'project_id', 'user_domain_id': 'user_domain',
                  'project_domain_id': 'project_domain',
                  'domain_id': 'domain'}


def body_bytes(case):
    if 'body_b64' in case:
        return base64.b64decode(case['body_b64'])
    if 'body_fill' in case:
        f = case['body_fill']
        return (f['prefix'] + f['unit'] * f['count'] + f['suffix']).encode()
    if 'body' in case:
        return case['body'].encode('utf-8')
    return None


class Vars:
    """Placeholders in the corpus and their inverse for normalisation."""

    def __init__(self, opt):
        self.opt = opt
        self.fwd, self.inv = {}, []

    def add(self, name, value):
        self.fwd['{{%s}}' % name] = value
        self.inv.append((value, '{{%s}}' % name))
        self.inv.sort(key=lambda x: -len(x[0]))

    def sub(self, s):
        if '{{' not in s:
            return s
        for m in set(re.findall(r'\{\{[a-z0-9_:.-]+\}\}', s)):
            if m not in self.fwd:
                real_token(self, m[2:-2])
            s = s.replace(m, self.fwd[m])
        return s

    def norm(self, s):
        for v, n in self.inv:
            if s == v or (len(v) >= 12 and v in s):
                s = s.replace(v, n)
        return s


def _ks(url, method, path, obj=None, headers=None):
    r = urllib.request.Request(url.rstrip('/') + path, method=method,
                               data=json.dumps(obj).encode() if obj else None,
                               headers=dict(headers or {}, **{
                                   'Content-Type': 'application/json'}))
    with urllib.request.urlopen(r, timeout=20) as f:
        return json.load(f), f.headers


def real_token(v, name):
    """Real identity tokens: {{rk:admin}}, {{rk:unscoped}}, {{rk:system}},
    {{rk:heat}}; {{rk:project}}."""
    ks = v.opt.keystone_url.rstrip('/')
    if not ks.endswith('/v3'):
        ks += '/v3'
    if name == 'rk:project':
        real_token(v, 'rk:admin')
        return
    user = os.environ.get('OS_USERNAME', 'admin')
    pw = os.environ.get('OS_PASSWORD', 'admin')
    kind = name.split(':')[1]
    proj = os.environ.get('OS_PROJECT_NAME', 'admin')
    if kind == 'heat':
        user = os.environ.get('ORACLE_SVC_USER', 'heat')
        pw = os.environ.get('ORACLE_SVC_PASSWORD', 'heat')
        proj = 'service'
    scope = {'unscoped': 'unscoped',
             'system': {'system': {'all': True}}}.get(
        kind, {'project': {'name': proj, 'domain': {'name': 'Default'}}})
    auth = {'auth': {'identity': {'methods': ['password'], 'password': {
        'user': {'name': user, 'domain': {'name': 'Default'},
                 'password': pw}}}, 'scope': scope}}
    body, hdr = _ks(ks, 'POST', '/auth/tokens', auth)
    tok = hdr['X-Subject-Token']
    v.add(name, tok)
    t = body['token']
    if t.get('project') and kind == 'admin':
        v.add('rk:project', t['project']['id'])
        v.add('rk:user', t['user']['id'])
        v.add('rk:userdomain', t['user']['domain']['id'])
    elif t.get('project'):
        v.add(name + '-project', t['project']['id'])
        v.add(name + '-user', t['user']['id'])


def build(case, v):
    body = body_bytes(case)
    if body is not None and 'body' in case:
        body = v.sub(case['body']).encode('utf-8')
    hs = [(k, v.sub(x)) for k, x in case.get('headers', [])]
    have = {k.lower() for k, _ in hs}
    out = []
    if 'host' not in have:
        out.append(('Host', DEFAULT_HOST))
    out += [(k, x) for k, x in hs if x != '<omit>']
    if 'connection' not in have:
        out.append(('Connection', 'close'))
    if body is not None and not have & {'content-length',
                                        'transfer-encoding'}:
        out.append(('Content-Length', str(len(body))))
    head = '%s %s HTTP/1.1\r\n' % (case['method'], v.sub(case['path']))
    head += ''.join('%s: %s\r\n' % h for h in out) + '\r\n'
    return head.encode('utf-8', 'surrogateescape'), body or b''


def exchange(host, port, raw, body, timeout):
    s = socket.create_connection((host, port), timeout)
    s.settimeout(timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        try:
            s.sendall(raw + body)
        except OSError:
            pass          # server may answer before reading everything
        data, head_done, need = b'', False, None
        while True:
            try:
                d = s.recv(65536)
            except (ConnectionResetError, socket.timeout):
                break
            if not d:
                break
            data += d
            if not head_done and b'\r\n\r\n' in data:
                head_done = True
                h = data.split(b'\r\n\r\n', 1)[0].lower()
                m = re.search(rb'\r\ncontent-length: *(\d+)', h)
                first = h.split(b'\r\n', 1)[0]
                nobody = re.match(rb'http/1\.. (204|304)', first)
                if raw.startswith(b'HEAD '):
                    s.settimeout(0.2)   # tolerate stray bytes
                elif nobody:
                    need = len(h) + 4
                elif m and b'100 continue' not in first:
                    need = len(h) + 4 + int(m.group(1))
            if need is not None and len(data) >= need:
                break
        return data
    finally:
        s.close()


def parse(data, method):
    while data.startswith(b'HTTP/1.1 100'):
        data = data.split(b'\r\n\r\n', 1)[1]
    if b'\r\n\r\n' not in data:
        return {'status': 0, 'headers': {}, 'raw': b''}
    head, body = data.split(b'\r\n\r\n', 1)
    lines = head.decode('latin-1').split('\r\n')
    m = re.match(r'HTTP/1\.[01] (\d+)', lines[0])
    hdr = {}
    for ln in lines[1:]:
        k, _, x = ln.partition(':')
        hdr.setdefault(k.strip().lower(), []).append(x.strip())
    if 'chunked' in ','.join(hdr.get('transfer-encoding', [])).lower():
        out, rest = b'', body
        while rest:
            ln, _, rest = rest.partition(b'\r\n')
            n = int(ln.split(b';')[0] or b'0', 16)
            if n == 0:
                break
            out, rest = out + rest[:n], rest[n + 2:]
        body = out
    return {'status': int(m.group(1)) if m else 0, 'headers': hdr,
            'raw': body}


# ---------------------------------------------------------- normalisation
def norm_obj(o, v):
    if isinstance(o, dict):
        return {v.norm(k): norm_obj(x, v) for k, x in o.items()}
    if isinstance(o, list):
        return [norm_obj(x, v) for x in o]
    if isinstance(o, str):
        return v.norm(o)
    return o


UNORDERED = re.compile(r"('[^']*'(?:, '[^']*')+)")


def norm_msg(s):
    """Python set/list-of-set reprs: order inside is arbitrary."""
    return UNORDERED.sub(lambda m: ', '.join(sorted(m.group(1)
                                                    .split(', '))), s)


def json_equal_form(o):
    """Distinguish 1 / 1.0 / true, keep big ints and floats."""
    if isinstance(o, bool) or o is None or isinstance(o, str):
        return o
    if isinstance(o, float):
        if o != o or o in (float('inf'), float('-inf')):
            return {'__float__': repr(o)}
        if o == int(o):
            return {'__float__': repr(o)}
        return o
    if isinstance(o, dict):
        return {k: json_equal_form(x) for k, x in o.items()}
    if isinstance(o, list):
        return [json_equal_form(x) for x in o]
    return o


def norm_response(r, case, v):
    hdr = r['headers']
    out = {'status': r['status'], 'headers': {}}
    for k in KEEP_HEADERS:
        if k in hdr:
            vals = [v.norm(x) for x in hdr[k]]
            if k in SET_HEADERS:
                vals = sorted({y.strip() for x in vals for y in x.split(',')},
                              key=str.lower)
            elif k == 'content-type':
                vals = [re.sub(r'\s*;\s*', '; ', x).lower() for x in vals]
            out['headers'][k] = vals
    ids = hdr.get('x-openstack-request-id', [])
    if not ids:
        out['request_id'] = 'absent'
    elif len(ids) > 1:
        out['request_id'] = 'duplicated'
    else:
        out['request_id'] = 'valid' if REQID.match(ids[0]) else 'malformed'
    body = r['raw']
    cl = hdr.get('content-length')
    if case['method'] == 'HEAD':
        out['content_length'] = 'n/a'
        body = b''
    elif cl is None:
        out['content_length'] = 'absent'
    else:
        out['content_length'] = ('ok' if cl == [str(len(body))]
                                 else 'mismatch')
    ct = (out['headers'].get('content-type') or [''])[0]
    if not body:
        out['body_kind'], out['body'] = 'empty', None
        return out
    text = body.decode('utf-8', 'replace')
    if 'json' in ct or text[:1] in '{[':
        try:
            o = norm_obj(json_equal_form(json.loads(text)), v)
            if isinstance(o, dict) and isinstance(o.get('error'), dict):
                tb = o['error'].get('traceback')
                if isinstance(tb, str) and 'Traceback (most recent' in tb:
                    o['error']['traceback'] = '<traceback>'
                elif isinstance(tb, str) and 'File "' in tb:
                    o['error']['traceback'] = '<traceback>'
                m = o['error'].get('message')
                if isinstance(m, str):
                    o['error']['message'] = norm_msg(m)
            out['body_kind'], out['body'] = 'json', o
            return out
        except ValueError:
            pass
    out['body_kind'] = 'text'
    out['body'] = v.norm(re.sub(r'\s+', ' ', text).strip())
    return out


def norm_token_info(t):
    t = (t or {}).get('token', {})
    return {'keys': sorted(t), 'roles': sorted(r.get('name') for r in
                                               t.get('roles', [])),
            'user': t.get('user'), 'project': t.get('project'),
            'catalog': bool(t.get('catalog'))}


def norm_rpc(rec, v):
    r = {k: rec.get(k) for k in ('method', 'namespace', 'version', 'kind',
                                 'call_monitor_timeout')}
    r['args'] = norm_obj(json_equal_form(rec.get('args')), v)
    c = dict(rec.get('ctxt') or {})
    c.pop('client_timeout', None)
    rid = c.get('request_id')
    c['request_id'] = ('<req-id>' if isinstance(rid, str) and
                       REQID.match(rid) else rid)
    if isinstance(c.get('auth_token_info'), dict):
        c['auth_token_info'] = norm_token_info(c['auth_token_info'])
    r['ctxt'] = norm_obj(json_equal_form(c), v)
    if rec.get('extra_keys'):
        r['extra_keys'] = rec['extra_keys']
    return r


# ------------------------------------------------------------- comparison
def deep(a, b, path, out, limit=6):
    if len(out) >= limit:
        return
    if type(a) is not type(b):
        out.append('%s: expected %s got %s' % (path, short(a), short(b)))
    elif isinstance(a, dict):
        for k in sorted(set(a) | set(b)):
            if k not in b:
                out.append('%s.%s: missing (expected %s)'
                           % (path, k, short(a[k])))
            elif k not in a:
                out.append('%s.%s: unexpected %s' % (path, k, short(b[k])))
            else:
                deep(a[k], b[k], path + '.' + k, out, limit)
    elif isinstance(a, list):
        if len(a) != len(b):
            out.append('%s: expected %d items got %d'
                       % (path, len(a), len(b)))
        for i, (x, y) in enumerate(zip(a, b)):
            deep(x, y, '%s[%d]' % (path, i), out, limit)
    elif a != b:
        out.append('%s: expected %s got %s' % (path, short(a), short(b)))


def short(x):
    s = json.dumps(x, ensure_ascii=False)
    return s if len(s) < 300 else s[:300] + '...'


def compare(gold, got):
    """-> list of (kind, text)"""
    d = []
    g, r = gold['response'], got['response']
    if gold.get('crash') and (r['status'] >= 500 or r['status'] == 0):
        g = r          # upstream's WSGI app dies here: any 5xx will do
    if g['status'] != r['status']:
        d.append(('status', 'expected %s got %s' % (g['status'],
                                                    r['status'])))
    for k in sorted(set(g['headers']) | set(r['headers'])):
        a, b = g['headers'].get(k), r['headers'].get(k)
        if k in SET_HEADERS:
            la = a and sorted(x.lower() for x in a)
            lb = b and sorted(x.lower() for x in b)
        elif k == 'location':
            la, lb = a, b
        else:
            la = a and sorted(x.lower() for x in a)
            lb = b and sorted(x.lower() for x in b)
        if la != lb:
            d.append(('header:' + k, 'expected %s got %s' % (a, b)))
    if g['request_id'] != r['request_id']:
        d.append(('header:x-openstack-request-id', 'expected %s got %s'
                  % (g['request_id'], r['request_id'])))
    if r['content_length'] == 'mismatch' != g['content_length']:
        d.append(('header:content-length', 'does not match the body'))
    if g['body_kind'] != r['body_kind']:
        d.append(('body', 'expected %s body got %s: %s' % (
            g['body_kind'], r['body_kind'], short(r['body']))))
    else:
        o = []
        deep(g['body'], r['body'], '$', o)
        for t in o:
            kind = 'body'
            if t.startswith('$.error.message') or t.startswith('$.message'):
                kind = 'body:message'
            elif t.startswith('$.error.traceback'):
                kind = 'body:traceback'
            d.append((kind, t))
    a, b = gold['rpc'], got['rpc']
    if [x['method'] for x in a] != [x['method'] for x in b]:
        d.append(('rpc', 'expected calls %s got %s' % (
            [x['method'] for x in a], [x['method'] for x in b])))
    else:
        for i, (x, y) in enumerate(zip(a, b)):
            for f in ('namespace', 'version', 'kind',
                      'call_monitor_timeout', 'extra_keys'):
                if x.get(f) != y.get(f):
                    d.append(('rpc:' + f, '%s: expected %r got %r' % (
                        x['method'], x.get(f), y.get(f))))
            o = []
            deep(x['args'], y['args'], x['method'] + '.args', o)
            d += [('rpc:args', t) for t in o]
            for f in sorted(set(x['ctxt']) | set(y['ctxt'])):
                o = []
                if f not in y['ctxt']:
                    o = ['missing']
                elif (f in LEGACY_CONTEXT and y['ctxt'][f]
                      == y['ctxt'].get(LEGACY_CONTEXT[f])):
                    continue
                elif f not in x['ctxt']:
                    o = ['unexpected %s' % short(y['ctxt'][f])]
                else:
                    deep(x['ctxt'][f], y['ctxt'][f], f, o)
                d += [('rpc:ctxt.' + f, '%s: %s' % (x['method'], t))
                      for t in o]
    return d


def load_known(path):
    if not path or not os.path.exists(path):
        return []
    try:
        import yaml
    except ImportError:
        if any(ln.startswith('-') for ln in open(path)):
            raise
        return []
    items = yaml.safe_load(open(path)) or []
    for it in items:
        assert it.get('reason'), 'known difference without a reason: %s' % it
    return items


def accepted(case, kind, known):
    for it in known:
        if 'id' in it and not fnmatch.fnmatch(case['id'], it['id']):
            continue
        if 'tag' in it and it['tag'] not in case.get('tags', []):
            continue
        if 'group' in it and it['group'] != case['group']:
            continue
        if 'variant' in it and it['variant'] != case['variant']:
            continue
        if not ({'id', 'tag', 'group', 'variant'} & set(it)):
            continue
        if any(fnmatch.fnmatch(kind, k) for k in it.get('kinds', ['*'])):
            return it
    return None


def sort_roles(*records):
    """A real keystone lists roles in the order of a Python set of random ids."""
    for rec in records:
        for call in rec['rpc']:
            if isinstance(call['ctxt'].get('roles'), list):
                call['ctxt']['roles'].sort()


# -------------------------------------------------------------------- run
def load_dir(d):
    out = []
    for p in sorted(glob.glob(os.path.join(d, '*.json'))):
        out += json.load(open(p))
    return out


def run_case(case, v, host, port, logf):
    r = run_once(case, v, host, port, logf)
    for _ in range(4):
        # a real identity service may drop idle connections: the token
        # filter then answers 503; not what these cases are about
        if case['variant'] != 'realks' or r['response']['status'] != 503:
            break
        time.sleep(0.2)
        r = run_once(case, v, host, port, logf)
    return r


def run_once(case, v, host, port, logf):
    raw, body = build(case, v)
    logf.seek(0, 2)
    data = exchange(host, port, raw, body, case.get('timeout', 20))
    resp = norm_response(parse(data, case['method']), case, v)
    rpc, buf = [], logf.read()
    for ln in buf.splitlines():
        if ln.strip():
            rpc.append(norm_rpc(json.loads(ln), v))
    return {'response': resp, 'rpc': rpc}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--base-url', required=True)
    ap.add_argument('--engine-log', required=True)
    ap.add_argument('--flavor')
    ap.add_argument('--variant')
    here = os.path.dirname(os.path.abspath(__file__))
    ap.add_argument('--corpus')
    ap.add_argument('--golden', default=os.path.join(here, 'golden'))
    ap.add_argument('--known')
    ap.add_argument('--keystone-url', default='http://127.0.0.1:5000')
    ap.add_argument('--show', type=int, default=20)
    ap.add_argument('--only', default='*')
    ap.add_argument('--record', help='write results instead of comparing')
    ap.add_argument('--json', help='write the detailed result')
    opt = ap.parse_args()
    corpus = opt.corpus or os.path.join(os.path.dirname(
        os.path.abspath(opt.golden)), 'corpus')
    cases = [c for c in load_dir(corpus)
             if (not opt.variant or c['variant'] == opt.variant)
             and (not opt.flavor or c['flavor'] == opt.flavor)
             and fnmatch.fnmatch(c['id'], opt.only)]
    u = urllib.parse.urlparse(opt.base_url)
    v = Vars(opt)
    v.add('server', '%s:%d' % (u.hostname, u.port))
    v.add('keystone', opt.keystone_url.rstrip('/'))
    results, t0 = {}, time.time()
    with open(opt.engine_log) as logf:
        for c in cases:
            results[c['id']] = run_case(c, v, u.hostname, u.port, logf)
    if opt.record:
        json.dump(results, open(opt.record, 'w'))
        print('%d cases recorded in %.1fs' % (len(results),
                                              time.time() - t0))
        return 0
    golden = {g['id']: g for g in load_dir(opt.golden)}
    known = load_known(opt.known or os.path.join(here,
                                                 'known_differences.yaml'))
    groups, shown, detail, bad_total = {}, 0, [], 0
    for c in cases:
        g = golden.get(c['id'])
        if g is None:
            continue
        st = groups.setdefault(c['group'], [0, 0, 0])
        st[0] += 1
        if c['variant'] == 'realks':
            sort_roles(g, results[c['id']])
        diffs = compare(g, results[c['id']])
        for alt in g.get('alternatives', []):
            if diffs:
                d2 = compare(alt, results[c['id']])
                if len(d2) < len(diffs):
                    diffs = d2
        bad = [x for x in diffs if not accepted(c, x[0], known)]
        if not bad:
            st[1] += 1
            if diffs:
                st[2] += 1
        else:
            bad_total += 1
            if shown < opt.show:
                shown += 1
                print('DIFF %s [%s] %s %s' % (c['id'], c['variant'],
                                              c['method'], c['path'][:150]))
                for k, t in bad[:6]:
                    print('     %s: %s' % (k, t))
        if diffs:
            detail.append({'id': c['id'], 'group': c['group'],
                           'unaccepted': bad, 'all': diffs})
    n = sum(s[0] for s in groups.values())
    ok = sum(s[1] for s in groups.values())
    print('%-22s %6s %6s %9s' % ('group', 'pass', 'total', 'accepted'))
    for k in sorted(groups):
        s = groups[k]
        print('%-22s %6d %6d %9d%s' % (k, s[1], s[0], s[2],
                                       '' if s[0] == s[1] else '   <--'))
    print('%-22s %6d %6d   %.1f%%  (%.1fs)' % (
        'TOTAL', ok, n, 100.0 * ok / n if n else 0, time.time() - t0))
    if opt.json:
        json.dump({'groups': groups, 'details': detail}, open(opt.json, 'w'),
                  indent=1)
    return 1 if bad_total or not n else 0


if __name__ == '__main__':
    sys.exit(main())
